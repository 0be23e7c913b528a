declare module "*.css" {
  const text: string; // the build puts the sheet in, minified
  export default text;
}
