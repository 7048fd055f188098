// The emoji that people of a shop use most. A picker of all of them, with search, would weigh more than the widget.

/** In rows of eight: faces, hands, signs, things of a shop. */
export const EMOJI: readonly string[] = [
  ..."😀😄😂😊😉😍😘😎",
  ..."🤔😅😢😭😡😱😴🤗",
  ..."👍👎👏🙏🤝👌💪👋",
  ..."🎉🔥✨💯✅❌❓❗",
  ..."📦🚚🎁🛒💰📷📄⏰",
].concat(["❤️", "💔", "🌹", "☕", "🍀", "☀️", "🌙", "⭐"]);

/** Put a text where the caret of a box is, and return what the box then says. */
export function insertInto(box: HTMLTextAreaElement, text: string): string {
  box.setRangeText(text, box.selectionStart, box.selectionEnd, "end");
  box.focus();
  return box.value;
}
