// Arrow keys in a grid of links: left and right go to the neighbor, up and down to the nearest link in the next row.

/** Make the arrow keys move the focus among the elements in `root` that match `selector`. */
export function moveByArrows(root, selector) {
  root.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const from = event.target.closest(selector);
    if (!from) return;
    const to = target(event.key, [...root.querySelectorAll(selector)], from);
    if (!to) return;
    event.preventDefault();
    to.focus();
    to.scrollIntoView({ block: "nearest" });
  });
}

function target(key, all, from) {
  const place = all.indexOf(from);
  if (key === "ArrowRight") return all[place + 1];
  if (key === "ArrowLeft") return all[place - 1];
  if (key === "Home") return all[0];
  if (key === "End") return all.at(-1);
  if (key === "ArrowDown") return nearest(from, all.slice(place + 1));
  if (key === "ArrowUp") return nearest(from, all.slice(0, place).reverse());
  return undefined;
}

/** The element of the first other row whose center is horizontally nearest to the center of `from`. */
function nearest(from, others) {
  const here = from.getBoundingClientRect();
  const middle = (rect) => rect.left + rect.width / 2;
  const outside = others.filter((one) => Math.abs(one.getBoundingClientRect().top - here.top) > 4);
  if (!outside.length) return undefined;
  const top = outside[0].getBoundingClientRect().top;
  const row = outside.filter((one) => Math.abs(one.getBoundingClientRect().top - top) <= 4);
  const distance = (one) => Math.abs(middle(one.getBoundingClientRect()) - middle(here));
  return row.reduce((best, one) => (distance(one) < distance(best) ? one : best));
}
