// Filters, and their filter expression for the API: pure functions.
//
// Filters are {columns: {name: {values: [...]} or {from, to}}, where}. Values are strings; `from` and `to` are numbers or
// null. `where` is the filter expression that the user has written, or "".

export const NO_FILTERS = Object.freeze({ columns: Object.freeze({}), where: "" });

/** The filter expression for the API; "" if there are no filters. */
export function expression({ columns, where }) {
  const parts = Object.entries(columns).flatMap(([name, chosen]) => columnFilters(name, chosen));
  // The user's expression may end with a comment, which the line break ends.
  if (where.trim()) parts.push(parts.length ? `(\n${where.trim()}\n)` : where.trim());
  return parts.join(" and ");
}

/** Number of active filters: the filtered columns, plus one for the user's expression. */
export function filterCount({ columns, where }) {
  return Object.keys(columns).length + (where.trim() ? 1 : 0);
}

/** The filters with a new choice for a column; an empty choice removes the column. */
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
