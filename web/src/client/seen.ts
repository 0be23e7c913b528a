/**
 * seen returns a function that reports whether it was given an id before, as
 * far as it remembers: the last 1,024. More than an inbox holds by default, so
 * that even a replay of all of it repeats nothing.
 */
export function seen(): (id: string) => boolean {
  const ids = new Set<string>(); // in the order they came
  return (id) => {
    if (ids.has(id)) return true;
    if (ids.add(id).size > 1024) {
      const [oldest] = ids;
      ids.delete(oldest as string);
    }
    return false;
  };
}
