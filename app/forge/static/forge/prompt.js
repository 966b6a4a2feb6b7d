"use strict";

// Fills the prompt while somebody types, and copies it. Without this file the server fills it, and the text can be marked by hand.
const prompt = document.getElementById("prompt");
const copy = document.getElementById("copy");
const copied = document.getElementById("copied");

for (const field of document.querySelectorAll("#variables [data-fills]")) {
  const places = [...prompt.querySelectorAll("mark")].filter((mark) => mark.dataset.variable === field.dataset.fills);
  const fill = () => {
    for (const place of places) place.textContent = field.value || `{{ ${field.dataset.fills} }}`;
    copied.textContent = "";
  };
  field.addEventListener("input", fill);
  // A browser that goes back puts the values into the fields again, but not into the prompt.
  if (field.value) fill();
}

// The clipboard belongs to pages that came over HTTPS; elsewhere the browser copies what is marked.
async function copyPrompt() {
  try {
    await navigator.clipboard.writeText(prompt.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(prompt);
    return document.execCommand("copy");
  }
}

copy.hidden = false;
copy.addEventListener("click", async () => {
  copied.textContent = (await copyPrompt()) ? "Copied." : "The prompt is marked: copy it with the keyboard.";
});
