// The panel that shows the query.

import { originalUrl, thumbnailUrl } from "./api.js";
import { BoxEditor } from "./box.js";
import { fileName, imageName } from "./names.js";

const PREVIEW = 1024; // pixels of the longest side

export class QueryPanel {
  /** @param onBox called with the new box, or null, after the user has changed it. */
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
    this.source = null;
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

  /** Show a source (see api.js) and a box or null; hide the panel if the source is null. */
  show(source, box) {
    this.source = source;
    this.preview.hidden = !source;
    URL.revokeObjectURL(this.objectUrl);
    this.objectUrl = source?.file ? URL.createObjectURL(source.file) : null;
    this.editor.show(null, box);
    this.updateButtons();
    if (!source) return;
    this.showPicture(true);
    this.original.hidden = Boolean(source.file);
    if (!source.file) this.original.href = originalUrl(source.image);
    this.picture.src = this.url;
    this.describe(source.file ? source.file.name || "Pasted photo" : `Photo ${source.image}`, "");
  }

  /** Replace the box. */
  showBox(box) {
    this.editor.show(this.editor.size, box);
    this.updateButtons();
  }

  /** Fill in facts from the service: the size of the query, and the name of an indexed image. */
  complete({ image, width, height }) {
    this.editor.measure({ width, height });
    this.updateButtons();
    const size = `${width} × ${height}`;
    if (image) this.describe(imageName(image), image.landmark ? `${fileName(image)} · ${size}` : size);
    else this.describe(this.name.textContent, size);
  }

  /** {name, url} of the photo, for the comparison. */
  get shown() {
    return { name: this.name.textContent, url: this.url };
  }

  get url() {
    return this.objectUrl ?? thumbnailUrl(this.source.image, PREVIEW);
  }

  loaded() {
    const { naturalWidth: width, naturalHeight: height } = this.picture;
    this.stage.style.setProperty("--aspect", width / height);
    // An upload has its full size here. The preview of an indexed image may be smaller than the image.
    if (!this.source?.file || this.editor.size) return;
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
    this.unseen.textContent = this.source?.file
      ? "The browser cannot display this photo."
      : "Photo not available. Was its file moved or deleted?";
  }

  updateButtons() {
    const boxed = Boolean(this.editor.box);
    this.addButton.hidden = boxed;
    this.addButton.disabled = !this.editor.size;
    this.clearButton.hidden = !boxed;
    this.help.hidden = boxed || !this.editor.size;
  }
}
