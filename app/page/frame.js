// One of the two photos of a comparison, with what is laid over it: the box, or an attention map.

import { looksFrom, paint, peak, whereabouts } from "./attention.js";
import { make } from "./dom.js";
import { PlacePicker } from "./place.js";

export class Frame {
  /**
   * @param figure element that takes the photo.
   * @param onLook called with a sentence, when another place of the global spatial map was picked.
   */
  constructor(figure, onLook) {
    this.onLook = onLook;
    this.picture = make("img");
    this.picture.draggable = false;
    this.canvas = make("canvas", "heat");
    this.area = make("div", "map", this.canvas);
    this.outline = make("div", "outline");
    this.photo = make("div", "photo", this.picture, this.outline, this.area);
    figure.prepend(this.photo);
    this.picker = new PlacePicker(this.area, (cell) => this.look(cell));
  }

  /**
   * Show a photo.
   * @param side {name, url, width, height, box}: width and height in pixels of the upright image; `box` is the part
   *   of it that is meant, or null.
   */
  show(side) {
    this.side = side;
    this.clear();
    this.picture.alt = side.name;
    this.picture.src = side.url;
    this.outline.hidden = !side.box;
    if (side.box) this.lay(this.outline, side.box);
  }

  /** Make the photo as large as a room of this size lets it be. */
  fit(width, height) {
    const aspect = this.side.width / this.side.height;
    const wide = Math.max(1, Math.min(width, height * aspect));
    this.photo.style.width = `${wide}px`;
    this.photo.style.height = `${wide / aspect}px`;
  }

  /** Lay one of the maps of an attention (see attention.js) over the photo. */
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

  /** Take the map away. */
  clear() {
    this.area.hidden = true;
    this.picker.show(null);
  }

  look(cell) {
    const map = looksFrom(this.attention, cell);
    paint(this.canvas, map, this.attention);
    const [from, to] = [cell, peak(map, this.attention.width)].map((one) => whereabouts(one, this.attention));
    this.onLook(`In ${this.side.name}, this place (${from}) looks most at the ${to}.`);
  }

  /** Put an element where a box of the photo is. */
  lay(element, { x1, y1, x2, y2 }) {
    const { width, height } = this.side;
    element.style.left = `${(100 * x1) / width}%`;
    element.style.top = `${(100 * y1) / height}%`;
    element.style.width = `${(100 * (x2 - x1)) / width}%`;
    element.style.height = `${(100 * (y2 - y1)) / height}%`;
  }
}
