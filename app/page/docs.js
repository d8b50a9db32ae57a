// Lists the API from the service's own openapi.json.

const root = document.getElementById("endpoints");

try {
  const api = await (await fetch("openapi.json")).json();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, endpoint] of Object.entries(methods)) root.append(section(api, method, path, endpoint));
  }
} catch {
  root.textContent = "The description of the API cannot be loaded. Reload the page.";
}

function section(api, method, path, endpoint) {
  const part = make("section", "");
  part.className = "endpoint";
  part.append(make("h2", endpoint.summary), make("code", `${method.toUpperCase()} ${path}`), make("p", endpoint.description));
  part.append(...table("Parameters", (endpoint.parameters ?? []).map((one) => [one.name, one.description])));
  part.append(...table("Form fields", fields(api, endpoint.requestBody)));
  const answered = Object.keys(endpoint.responses).find((code) => code.startsWith("2"));
  part.append(...table(`Response (${answered})`, fields(api, endpoint.responses[answered])));
  const others = Object.entries(endpoint.responses).filter(([code]) => code !== answered);
  part.append(...table("Other responses", others.map(([code, answer]) => [code, answer.description])));
  return part;
}

/** [[name, description], ...] of the object in a request or response; nested names are joined by dots. */
function fields(api, message) {
  const media = Object.values(message?.content ?? {})[0];
  return properties(api, media?.schema ?? {}, "");
}

function properties(api, schema, prefix) {
  const { properties: own } = resolved(api, schema);
  return Object.entries(own ?? {}).flatMap(([name, property]) => {
    const inner = [property, property.items ?? {}, ...(property.anyOf ?? [])].find((one) => one.$ref);
    const text = property.description ?? resolved(api, inner ?? {}).description ?? "";
    return [[prefix + name, text], ...(inner ? properties(api, inner, `${prefix + name}.`) : [])];
  });
}

function resolved(api, schema) {
  return schema.$ref ? api.components.schemas[schema.$ref.split("/").at(-1)] : schema;
}

function table(title, rows) {
  if (!rows.length) return [];
  const made = make("table", "");
  made.append(make("caption", title));
  for (const [name, text] of rows) {
    const head = make("th", "");
    head.scope = "row";
    head.append(make("code", name));
    const row = made.appendChild(make("tr", ""));
    row.append(head, make("td", text));
  }
  return [made];
}

function make(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text ?? "";
  return element;
}
