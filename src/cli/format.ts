/** Figures for people: counts, bytes, rates, times. */

const UNITS = ['', 'k', 'M', 'G', 'T', 'P'] as const;

/** Three or four digits with a decimal prefix: 1234567 is "1.23 M". */
export function scaled(value: number, unit: string): string {
  let index = 0;
  let rest = value;
  while (rest >= 1000 && index < UNITS.length - 1) {
    rest /= 1000;
    index += 1;
  }
  const digits = index === 0 && Number.isInteger(rest) ? 0 : rest >= 100 ? 0 : rest >= 10 ? 1 : 2;
  const suffix = `${UNITS[index]}${unit}`;
  return suffix === '' ? rest.toFixed(digits) : `${rest.toFixed(digits)} ${suffix}`;
}

/** A whole number with separators between thousands. */
export function count(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
}

/** Bytes with a decimal prefix. */
export function bytes(value: number): string {
  return scaled(value, 'B');
}

/** A length of time in its two largest units. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Local time of day with milliseconds. */
export function clock(timeMs: number): string {
  const date = new Date(timeMs);
  const two = (value: number) => String(value).padStart(2, '0');
  const ms = String(date.getMilliseconds()).padStart(3, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
}
