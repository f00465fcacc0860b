export { smmuTableDecoder } from "./decoder.js";
