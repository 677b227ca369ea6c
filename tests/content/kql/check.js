// Microsoft's own parser of KQL reads queries, with the tables they use, and says what is wrong with each.
// In: {"tables": {name: "(column:type, ...)"}, "queries": {name: text}}, on standard input.
// Out: {name: {"faults": [text], "columns": {name: type}}}.
"use strict";
require("@kusto/language-service-next/bridge.min.js");
require("@kusto/language-service-next/Kusto.Language.Bridge.min.js");

const { Symbols, KustoCode, GlobalState } = Kusto.Language;
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
const tables = Object.entries(given.tables).map(([name, schema]) => Symbols.TableSymbol.From(schema).WithName(name));
const database = new Symbols.DatabaseSymbol.$ctor3("workspace", null, System.Array.init(tables, Symbols.Symbol), false);
const globals = GlobalState.Default.WithDatabase(database);

function judge(text) {
    const code = KustoCode.ParseAndAnalyze(text, globals);
    const found = code.GetDiagnostics();
    const faults = [];
    for (let at = 0; at < found.Count; at++) {
        const { Message, Start, Length } = found.getItem(at);
        faults.push(`${Message} (${text.substr(Start, Length)})`);
    }
    const columns = {};
    const result = code.ResultType;
    for (let at = 0; result && result.Columns && at < result.Columns.Count; at++) {
        const column = result.Columns.getItem(at);
        columns[column.Name] = column.Type.Name;
    }
    return { faults, columns };
}

const judged = Object.entries(given.queries).map(([name, text]) => [name, judge(text)]);
process.stdout.write(JSON.stringify(Object.fromEntries(judged)));
