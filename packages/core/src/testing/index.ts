// The conformance kit.
export { gunzipIfNeeded, playFile } from "./conform.js";
export type { Players } from "./conform.js";
export { errnoOf } from "./errno.js";
export { formatSuite } from "./format-suite.js";
export type { EditorFactory, FormatCheck, FormatSuiteOptions, TableEditor } from "./format-suite.js";
export { iommuSuite } from "./iommu-suite.js";
export type { IommuCheck, IommuSuiteOptions } from "./iommu-suite.js";
export { FormatError } from "./json.js";
export type { CaseResult, Failure } from "./result.js";
export { bareNodes, mockExtension } from "./mock/index.js";
export { recordedMachine } from "./recorded-machine.js";
export { playTables } from "./tables.js";
export { recordNodes } from "./record/recorder.js";
export type { RecordOptions } from "./record/recorder.js";
export { playTranscript } from "./transcripts.js";
export type { TranscriptMachine, TranscriptPlatform } from "./transcripts.js";
export { playVectors } from "./vectors.js";
