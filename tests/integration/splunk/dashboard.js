// Prints what Splunk's own schemas find wrong in the dashboard definition on standard input, as a list.
const Ajv = require("ajv").default;
const { defaultSchema } = require("@splunk/dashboard-definition");
const schemas = require("@splunk/visualization-schemas");

const definition = JSON.parse(require("fs").readFileSync(0, "utf8"));
const ajv = new Ajv({ strict: false, allErrors: true });
const wrong = [];

function judge(schema, value, where) {
  if (ajv.validate(schema, value)) return;
  for (const error of ajv.errors) wrong.push(`${where}${error.instancePath}: ${error.message}`);
}

// Splunk 9 knows one layout, Splunk 10 puts it into a tab when it opens the dashboard.
const { globalInputs, ...layout } = definition.layout;
const tabbed = { layoutDefinitions: { one: layout }, tabs: { items: [{ layoutId: "one" }] }, globalInputs };
judge(defaultSchema, { ...definition, layout: tabbed }, "");

const names = { singlevalue: "singleValue" };
for (const [id, panel] of Object.entries(definition.visualizations)) {
  const kind = panel.type.replace("splunk.", "");
  const properties = schemas[`${names[kind] ?? kind}OptionsSchema`];
  if (!properties) wrong.push(`${id}: no visualization ${panel.type}`);
  else judge({ type: "object", properties, additionalProperties: false }, panel.options ?? {}, id);
}
console.log(JSON.stringify(wrong));
