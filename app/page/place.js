// A ring on a photo that selects a cell of an attention map: it follows the mouse, a finger, or the arrow keys.

import { make } from "./dom.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class PlacePicker {
  /**
   * @param area element that the map fills.
   * @param onPick called with the selected cell {column, row}.
   */
  constructor(area, onPick) {
    this.area = area;
    this.onPick = onPick;
    this.ring = make("button", "ring");
    this.ring.type = "button";
    this.ring.hidden = true;
    area.append(this.ring);
    area.addEventListener("pointerdown", (event) => this.follow(event));
    area.addEventListener("pointermove", (event) => this.follow(event));
    this.ring.addEventListener("keydown", (event) => this.press(event));
  }

  /** Show the ring in the middle of a map {height, width}; hide it if the map is null. */
  show(map, name = "") {
    this.map = map;
    this.name = name;
    this.ring.hidden = !map;
    this.area.classList.toggle("picking", Boolean(map));
    if (!map) return;
    this.pick({ column: Math.floor(map.width / 2), row: Math.floor(map.height / 2) });
  }

  follow(event) {
    if (!this.map || (event.pointerType !== "mouse" && event.buttons === 0)) return;
    const rect = this.area.getBoundingClientRect();
    const cell = (at, start, length, cells) => Math.min(Math.max(Math.floor(((at - start) / length) * cells), 0), cells - 1);
    this.pick({
      column: cell(event.clientX, rect.left, rect.width, this.map.width),
      row: cell(event.clientY, rect.top, rect.height, this.map.height),
    });
  }

  press(event) {
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    event.stopPropagation(); // outside the ring, the arrow keys step through the results
    const [dx, dy] = ARROWS[event.key];
    const { width, height } = this.map;
    this.pick({
      column: Math.min(Math.max(this.cell.column + dx, 0), width - 1),
      row: Math.min(Math.max(this.cell.row + dy, 0), height - 1),
    });
  }

  pick(cell) {
    this.cell = cell;
    const { width, height } = this.map;
    this.ring.style.left = `${(100 * (cell.column + 0.5)) / width}%`;
    this.ring.style.top = `${(100 * (cell.row + 0.5)) / height}%`;
    const at = `column ${cell.column + 1} of ${width}, row ${cell.row + 1} of ${height}`;
    this.ring.setAttribute("aria-label", `Spot in ${this.name}: ${at}. Move it with the arrow keys.`);
    this.onPick(cell);
  }
}
