// Prints what the official parser has to say of documents.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Parser } = createRequire(process.env.MODULES + "/")("@asyncapi/parser");
for (const file of process.argv.slice(2)) {
  const { diagnostics, document } = await new Parser().parse(readFileSync(file, "utf8"));
  for (const { code, path, message } of diagnostics) console.log(file, code, path.join("."), message);
  if (!document) console.log(file, "is no document");
}
console.log("parsed", process.argv.length - 2);
