// The box on the query photo: drawn, moved, and resized by mouse, finger, pen, or keyboard.

import { central, moved, resized, rounded, same, spanned } from "./geometry.js";

const EDGES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const DRAG_STARTS_AFTER = 5; // CSS pixels; a shorter movement is a click; arbitrary
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ARROW_STEP = 0.02; // fraction of the longest side of the image; arbitrary

export class BoxEditor {
  /**
   * @param stage element that the image fills; the box is drawn over it.
   * @param onChange called with the new box or null after each change by the user, also during a drag.
   */
  constructor(stage, onChange) {
    this.stage = stage;
    this.onChange = onChange;
    this.size = null; // {width, height} in pixels of the upright image; null until it is known, which disables drawing
    this.box = null;
    this.drag = null;
    this.build();
    stage.addEventListener("pointerdown", (event) => this.start(event));
    stage.addEventListener("pointermove", (event) => this.follow(event));
    stage.addEventListener("pointerup", (event) => this.end(event));
    stage.addEventListener("pointercancel", (event) => this.cancel(event));
    this.frame.addEventListener("keydown", (event) => this.press(event));
  }

  /** Set the size of the image and the box, without calling `onChange`. */
  show(size, box) {
    this.size = size;
    this.box = box;
    this.drag = null;
    this.draw();
  }

  /** Correct the size of the image without ending a drag. */
  measure(size) {
    this.size = size;
    this.draw();
  }

  /** Add a box in the middle, and focus it for the keyboard. */
  add() {
    if (!this.size) return;
    this.change(central(this.size));
    this.frame.focus();
  }

  /** Remove the box. */
  clear() {
    this.change(null);
  }

  build() {
    const shade = element("div", "shade");
    this.hole = shade.appendChild(element("div", "hole"));
    this.frame = element("div", "box");
    this.frame.tabIndex = 0;
    this.frame.setAttribute("role", "group");
    for (const edges of EDGES) {
      const handle = this.frame.appendChild(element("div", `handle ${edges}`));
      handle.dataset.edges = edges;
    }
    this.stage.append(shade, this.frame);
    this.parts = [shade, this.frame];
    this.draw();
  }

  start(event) {
    if (!this.size || this.drag || event.button !== 0 || !event.isPrimary) return;
    const edges = event.target.dataset.edges;
    const action = edges ? "resize" : this.frame.contains(event.target) ? "move" : "draw";
    this.drag = { action, edges, before: this.box, from: this.point(event), client: event, begun: false };
    this.stage.setPointerCapture(event.pointerId);
    if (action === "draw") event.preventDefault(); // prevents text selection, but also focus, which the box needs
  }

  follow(event) {
    if (!this.drag) return;
    const { action, edges, before, from, client } = this.drag;
    const far = Math.hypot(event.clientX - client.clientX, event.clientY - client.clientY);
    if (!this.drag.begun && far < DRAG_STARTS_AFTER) return;
    this.drag.begun = true;
    const to = this.point(event);
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    if (action === "resize") this.change(resized(before, edges, dx, dy, this.size));
    else if (action === "move") this.change(moved(before, dx, dy, this.size));
    else this.change(spanned(from, to, this.size));
  }

  end() {
    this.drag = null;
  }

  cancel() {
    if (this.drag?.begun) this.change(this.drag.before);
    this.drag = null;
  }

  press(event) {
    if (["Delete", "Backspace", "Escape"].includes(event.key)) {
      this.clear();
    } else if (event.key in ARROWS) {
      const step = Math.max(1, ARROW_STEP * Math.max(this.size.width, this.size.height));
      const [dx, dy] = ARROWS[event.key].map((direction) => direction * step);
      this.change(event.shiftKey ? resized(this.box, "se", dx, dy, this.size) : moved(this.box, dx, dy, this.size));
    } else {
      return;
    }
    event.preventDefault();
  }

  change(box) {
    const next = box && rounded(box);
    if (same(next, this.box)) return;
    this.box = next;
    this.draw();
    this.onChange(next);
  }

  /** Position of the pointer in pixels of the image. */
  point(event) {
    const rect = this.stage.getBoundingClientRect();
    return {
      x: ((event.clientX - rect.left) / rect.width) * this.size.width,
      y: ((event.clientY - rect.top) / rect.height) * this.size.height,
    };
  }

  draw() {
    const shown = Boolean(this.box && this.size);
    for (const part of this.parts) part.hidden = !shown;
    if (!shown) return;
    const { x1, y1, x2, y2 } = this.box;
    const { width, height } = this.size;
    for (const { style } of [this.hole, this.frame]) {
      style.left = `${(100 * x1) / width}%`;
      style.top = `${(100 * y1) / height}%`;
      style.width = `${(100 * (x2 - x1)) / width}%`;
      style.height = `${(100 * (y2 - y1)) / height}%`;
    }
    this.frame.setAttribute(
      "aria-label",
      `Region to search with: ${x2 - x1} by ${y2 - y1} pixels, ${x1} from the left, ${y1} from the top. ` +
        "Move it with the arrow keys, resize it with Shift and the arrow keys, remove it with Delete.",
    );
  }
}

function element(tag, className) {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}
