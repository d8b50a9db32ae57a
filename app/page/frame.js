// One of the two photos of a comparison, with its overlays: the box and an attention map.

import { looksFrom, paint, peak, whereabouts } from "./attention.js";
import { make, sayIfMissing } from "./dom.js";
import { PlacePicker } from "./place.js";

export class Frame {
  /**
   * @param figure element that contains the photo.
   * @param onLook called with a sentence about the selected spot of the global spatial attention.
   */
  constructor(figure, onLook) {
    this.onLook = onLook;
    this.picture = make("img");
    this.picture.draggable = false;
    this.canvas = make("canvas", "heat");
    this.area = make("div", "map", this.canvas);
    this.outline = make("div", "outline");
    this.photo = make("div", "photo", this.picture, this.outline, this.area);
    sayIfMissing(this.picture, this.photo);
    figure.prepend(this.photo);
    this.picker = new PlacePicker(this.area, (cell) => this.look(cell));
  }

  /**
   * Show a photo.
   * @param side {name, role, url, width, height, box}: `role` is "query" or "result", width and height are in pixels of
   *   the upright image, and `box` is the region that was searched with, or null.
   */
  show(side) {
    this.side = side;
    this.clear();
    this.picture.alt = side.name;
    this.picture.src = side.url;
    this.outline.hidden = !side.box;
    if (side.box) this.lay(this.outline, side.box);
  }

  /** Scale the photo to fit into a space of this size in CSS pixels. */
  fit(width, height) {
    const aspect = this.side.width / this.side.height;
    const fitted = Math.max(1, Math.min(width, height * aspect));
    this.photo.style.width = `${fitted}px`;
    this.photo.style.height = `${fitted / aspect}px`;
  }

  /** Show one of the attention maps over the photo; see `decode` in attention.js. */
  heat(attention, name) {
    this.attention = attention;
    this.lay(this.area, attention.box);
    this.area.hidden = false;
    if (name === "global_spatial") {
      this.picker.show(attention, this.side.name);
    } else {
      this.picker.show(null);
      paint(this.canvas, attention.maps[name], attention);
    }
  }

  /** Remove the attention map. */
  clear() {
    this.area.hidden = true;
    this.picker.show(null);
  }

  look(cell) {
    const map = looksFrom(this.attention, cell);
    paint(this.canvas, map, this.attention);
    const [from, to] = [cell, peak(map, this.attention.width)].map((one) => whereabouts(one, this.attention));
    this.onLook(`In the ${this.side.role} photo, this spot (${from}) is linked most strongly with the ${to} part.`);
  }

  /** Position an element over a box of the photo. */
  lay(element, { x1, y1, x2, y2 }) {
    const { width, height } = this.side;
    element.style.left = `${(100 * x1) / width}%`;
    element.style.top = `${(100 * y1) / height}%`;
    element.style.width = `${(100 * (x2 - x1)) / width}%`;
    element.style.height = `${(100 * (y2 - y1)) / height}%`;
  }
}
