// Filters on the columns of the index: the panel to set them, and a chip per active filter.

import { Problem, fetchColumns } from "./api.js";
import { icon, make, part, settled } from "./dom.js";
import { NO_FILTERS, filterCount, withColumn } from "./expression.js";
import { chosenText, columnField } from "./filter_fields.js";
import { columnName } from "./names.js";

const PAUSE = 350; // milliseconds after the last change of a filter until the search starts; arbitrary

export class FilterPanel {
  /** @param onChange called with the new filters (see expression.js). */
  constructor(onChange) {
    this.button = part("filter");
    this.panel = part("filters");
    this.fields = part("filter-fields");
    this.where = part("where");
    this.wrong = part("where-wrong");
    this.chips = part("chips");
    this.filters = NO_FILTERS;
    this.columns = null; // null until the service has answered
    this.loading = false;
    this.setters = new Map(); // column -> function that shows a choice in its field
    this.tell = settled(() => onChange(this.filters), PAUSE);
    this.tellNow = () => {
      this.tell.cancel();
      onChange(this.filters);
    };
    this.button.addEventListener("click", () => this.open(this.panel.hidden));
    this.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.open(false);
      this.button.focus();
    });
    part("where-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.choose({ ...this.filters, where: this.where.value.trim() }, this.tellNow);
    });
    part("filter-clear").addEventListener("click", () => this.clear());
  }

  /** Show filters without calling `onChange`. */
  show(filters) {
    this.filters = filters;
    this.tell.cancel();
    this.where.value = filters.where;
    for (const [name, set] of this.setters) set(filters.columns[name] ?? null);
    this.draw();
  }

  /** Show what is wrong with the advanced filter; "" for nothing. */
  showWrong(sentence) {
    this.wrong.textContent = sentence;
    this.wrong.hidden = !sentence;
    this.where.setAttribute("aria-invalid", String(Boolean(sentence)));
    if (sentence) this.open(true);
  }

  /** Remove all filters. */
  clear() {
    this.show(NO_FILTERS);
    this.showWrong("");
    this.tellNow();
  }

  /** Load the columns from the service. The button stays hidden if the service has no filters. */
  async load() {
    if (this.columns || this.loading) return;
    this.loading = true;
    try {
      this.columns = await fetchColumns();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 404) this.columns = [];
      return; // the search reports the error
    } finally {
      this.loading = false;
    }
    this.button.hidden = false;
    for (const column of this.columns) {
      const field = columnField(column, (chosen) => {
        this.choose(withColumn(this.filters, column.name, chosen), this.tell);
      });
      if (!field) continue;
      this.setters.set(column.name, field.set);
      this.fields.append(field.element);
    }
    part("where-columns").textContent = this.columns.map(({ name }) => name).join(", ");
    this.show(this.filters);
  }

  open(opened) {
    this.panel.hidden = !opened;
    this.button.setAttribute("aria-expanded", String(opened));
  }

  choose(filters, tell) {
    this.filters = filters;
    this.draw();
    tell();
  }

  draw() {
    const count = filterCount(this.filters);
    part("filter-count").textContent = count ? String(count) : "";
    part("filter-count").hidden = !count;
    part("filter-clear").hidden = !count;
    const chips = Object.entries(this.filters.columns).map(([name, chosen]) => {
      const text = `${columnName(name)}: ${chosenText(name, chosen)}`;
      return this.chip(text, () => withColumn(this.filters, name, null));
    });
    if (this.filters.where.trim()) chips.push(this.chip(this.filters.where.trim(), () => ({ ...this.filters, where: "" })));
    this.chips.replaceChildren(...chips);
    this.chips.hidden = !count;
  }

  chip(text, without) {
    const button = make("button", "chip", make("span", "", text), icon("close"));
    button.type = "button";
    button.setAttribute("aria-label", `Remove the filter ${text}`);
    button.addEventListener("click", () => {
      this.show(without());
      this.showWrong("");
      this.tellNow();
      (this.chips.querySelector("button") ?? this.button).focus();
    });
    return make("li", "", button);
  }
}
