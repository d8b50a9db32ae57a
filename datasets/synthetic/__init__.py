"""Landmarks that never were: 3-D scenes with textured facades, photographed from all sides in all light and weather.

styles, ornaments -> facades (textures) -> sites, landmarks -> scenes (meshes)
scenes, viewpoints -> render, light, occluders -> studio (photos) -> folder
"""

from glam.datasets.synthetic.folder import generate

__all__ = ["generate"]
