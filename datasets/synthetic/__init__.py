"""Generated landmarks: 3-D scenes with textured facades, rendered from random viewpoints in random light and weather.

styles, ornaments --facades--> textures --sites, landmarks--> meshes --scenes--> scene
scene, viewpoints --render--> layers --light, occluders--> picture --studio--> JPEG --folder--> files
"""

from glam.datasets.synthetic.folder import generate

__all__ = ["generate"]
