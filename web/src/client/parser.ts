// The wire format of an event stream: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream.

/** A block of a stream, as far as it has such a field. */
export interface Block {
  event: string;
  data: string; // "" also where there is none, which is no event
  id: string;
  retry: number; // ms; -1 without
}

// The most that is kept of one block, in UTF-16 units. The largest that the
// service sends has 16 KiB of data.
export const maxBlock = 1 << 20;

/**
 * parser returns a function that takes the text of a stream in pieces, as they
 * come, and hands every block to emit as soon as its blank line is there. It
 * throws when a block is larger than maxBlock. What emit throws passes through,
 * and then the parser is not to be used any more.
 */
export function parser(emit: (block: Block) => void): (text: string) => void {
  let rest = ""; // of a line whose end has not come
  let afterCR = false; // an LF now belongs to the end of the last line
  let size = 0; // of the lines of the block
  let block = empty();

  function line(text: string): void {
    size += text.length;
    if (text === "") {
      const whole = { ...block, data: block.data.slice(1) };
      size = 0;
      block = empty();
      return emit(whole);
    }
    const [, name, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(text) as string[];
    if (name === "data") block.data += "\n" + value;
    else if (name === "event") block.event = value;
    else if (name === "id" && !value.includes("\0")) block.id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) block.retry = +value;
  }

  return (text) => {
    if (afterCR && text[0] === "\n") text = text.slice(1);
    else if (text === "") return;
    // A CR ends its line here and now: waiting for an LF would hold the event
    // back until the next one.
    afterCR = text.endsWith("\r");
    const lines = text.split(/\r\n?|\n/);
    lines[0] = rest + lines[0];
    rest = lines.pop() as string;
    for (const l of lines) line(l);
    if (size + rest.length > maxBlock) throw new RangeError("block too long");
  };
}

const empty = (): Block => ({ event: "", data: "", id: "", retry: -1 });
