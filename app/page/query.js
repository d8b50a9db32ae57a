// The panel with the photograph that is being searched with.

import { originalUrl, thumbnailUrl } from "./api.js";
import { BoxEditor } from "./box.js";
import { fileName, placeName } from "./results.js";

const PREVIEW = 1024; // pixels of the longest side

export class QueryPanel {
  /** @param onBox called with the box, or null, when the user changed it. */
  constructor(root, onBox) {
    const part = (id) => root.querySelector(`#${id}`);
    this.preview = part("preview");
    this.picture = part("picture");
    this.unseen = part("unseen");
    this.name = part("query-name");
    this.note = part("query-note");
    this.original = part("original");
    this.addButton = part("box-add");
    this.clearButton = part("box-clear");
    this.help = part("box-help");
    this.stage = part("stage");
    this.query = null;
    this.objectUrl = null;
    this.editor = new BoxEditor(this.stage, (box) => {
      this.updateButtons();
      onBox(box);
    });
    this.addButton.addEventListener("click", () => this.editor.add());
    this.clearButton.addEventListener("click", () => this.clearBox());
    this.picture.addEventListener("load", () => this.loaded());
    this.picture.addEventListener("error", () => this.showPicture(false));
  }

  /** Show a query (see state.js), or with null hide the panel. */
  show(query) {
    this.query = query;
    this.preview.hidden = !query;
    URL.revokeObjectURL(this.objectUrl);
    this.objectUrl = query?.file ? URL.createObjectURL(query.file) : null;
    this.editor.show(null, query?.box ?? null);
    this.updateButtons();
    if (!query) return;
    this.showPicture(true);
    this.picture.src = this.objectUrl ?? thumbnailUrl(query.image, PREVIEW);
    this.original.hidden = query.image === undefined;
    if (query.image !== undefined) this.original.href = originalUrl(query.image);
    this.describe(query.file ? query.file.name || "Pasted photograph" : `Image ${query.image}`, "");
  }

  /** Fill in what only the service knows of the query: its size, and for an indexed image its name. */
  complete({ image, width, height }) {
    this.editor.measure({ width, height });
    this.updateButtons();
    const size = `${width} × ${height}`;
    if (image) this.describe(placeName(image.label) || fileName(image), image.label ? `${fileName(image)} · ${size}` : size);
    else this.describe(this.name.textContent, size);
  }

  loaded() {
    const { naturalWidth: width, naturalHeight: height } = this.picture;
    this.stage.style.setProperty("--aspect", width / height);
    // A file can be drawn on before any answer; the preview of an indexed image may be smaller than the image.
    if (!this.query?.file || this.editor.size) return;
    this.editor.measure({ width, height });
    this.updateButtons();
  }

  clearBox() {
    this.editor.clear();
    this.addButton.focus();
  }

  describe(name, note) {
    this.name.textContent = name;
    this.note.textContent = note;
    this.picture.alt = `Searching with: ${name}`;
  }

  showPicture(seen) {
    this.picture.hidden = !seen;
    this.unseen.hidden = seen;
  }

  updateButtons() {
    const boxed = Boolean(this.editor.box);
    this.addButton.hidden = boxed;
    this.addButton.disabled = !this.editor.size;
    this.clearButton.hidden = !boxed;
    this.help.hidden = boxed || !this.editor.size;
  }
}
