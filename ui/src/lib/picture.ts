/** A drawing of the core as an image: there it can neither run nor load anything. */
export function svgPicture(svg: string): string {
  return `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
}
