export { vtdTableDecoder } from "./decoder.js";
