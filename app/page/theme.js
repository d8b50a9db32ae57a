// Light or dark: as the system says, until the switch is used; a choice against the system is remembered.
//
// A classic script in the head, not a module: it runs before the page is drawn, so no wrong colors flash.

{
  const KEY = "glam-theme";
  const root = document.documentElement;
  const night = matchMedia("(prefers-color-scheme: dark)");
  const system = () => (night.matches ? "dark" : "light");

  const chosen = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return root.dataset.theme; // storage is forbidden: for this visit
    }
  };

  const choose = (theme) => {
    if (theme === system()) delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      if (theme === system()) localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // the attribute has it
    }
  };

  if (["light", "dark"].includes(chosen())) root.dataset.theme = chosen();

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const now = () => root.dataset.theme ?? system();
    const tell = () => button.setAttribute("aria-pressed", String(now() === "dark"));
    button.addEventListener("click", () => {
      choose(now() === "dark" ? "light" : "dark");
      tell();
    });
    night.addEventListener("change", tell);
    tell();
  });
}
