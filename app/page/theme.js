// Light or dark colors: those of the system, unless the user has switched, which is stored.
//
// A classic script in the head, not a module: it runs before the page is drawn, so that no wrong colors flash.

{
  const KEY = "glam-theme";
  const root = document.documentElement;
  const night = matchMedia("(prefers-color-scheme: dark)");
  const system = () => (night.matches ? "dark" : "light");

  const chosen = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return root.dataset.theme; // storage is forbidden: the choice lasts for this visit
    }
  };

  const choose = (theme) => {
    if (theme === system()) delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      if (theme === system()) localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // storage is forbidden: the attribute has the choice
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
