// From the filters chosen on the page to the one expression that the API takes: pure functions.
//
// Filters are {columns: {name: {values: [...]} or {from, to}}, where}. Values of a column are texts; `from` and `to` are
// numbers, each may be null. `where` is what an expert wrote.

export const NO_FILTERS = Object.freeze({ columns: Object.freeze({}), where: "" });

/** The expression for the API; "" when nothing is filtered. */
export function expression({ columns, where }) {
  const parts = Object.entries(columns).flatMap(([name, chosen]) => columnFilters(name, chosen));
  // The line breaks end a comment that an expert may have written.
  if (where.trim()) parts.push(parts.length ? `(\n${where.trim()}\n)` : where.trim());
  return parts.join(" and ");
}

/** How many filters are on: one a column, and one for what the expert wrote. */
export function filterCount({ columns, where }) {
  return Object.keys(columns).length + (where.trim() ? 1 : 0);
}

/** The filters with another choice for a column; an empty choice takes the column away. */
export function withColumn(filters, name, chosen) {
  const { [name]: _, ...others } = filters.columns;
  const empty = chosen === null || (chosen.values ? !chosen.values.length : chosen.from === null && chosen.to === null);
  return { ...filters, columns: empty ? others : { ...others, [name]: chosen } };
}

function columnFilters(name, { values, from = null, to = null }) {
  const column = `"${name.replaceAll('"', '""')}"`;
  if (values) return [`${column} in (${values.map(quoted).join(", ")})`];
  return [
    ...(from === null ? [] : [`${column} >= ${from}`]),
    ...(to === null ? [] : [`${column} <= ${to}`]),
  ];
}

function quoted(text) {
  return `'${text.replaceAll("'", "''")}'`;
}
