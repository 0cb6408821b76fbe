// Lets xterm.js work under our content policy, which forbids <style> elements and style attributes: on a page that
// calls `adoptStyles` before it opens a terminal, the first become style sheets made by script, and the second become
// properties. The policy allows both, so the page of the terminal needs no other policy than every page.

function styleSheet(placeholder) {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  let text = "";
  const content = {
    get: () => text,
    set: (value) => {
      text = String(value);
      sheet.replaceSync(text);
    },
  };
  Object.defineProperties(placeholder, {
    textContent: content,
    innerText: content,
    sheet: { value: sheet },
    remove: {
      value: () => {
        document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
        Element.prototype.remove.call(placeholder);
      },
    },
  });
  return placeholder;
}

let adopted = false;

export function adoptStyles() {
  if (adopted) return;
  adopted = true;
  const create = document.createElement;
  document.createElement = function (name, options) {
    // A template shows nothing and may stand anywhere.
    if (String(name).toLowerCase() === "style") return styleSheet(create.call(this, "template"));
    return create.call(this, name, options);
  };
  const setAttribute = Element.prototype.setAttribute;
  HTMLElement.prototype.setAttribute = function (name, value) {
    if (String(name).toLowerCase() === "style") this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
}
