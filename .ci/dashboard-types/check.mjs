// Writes each dashboard as a TypeScript constant of Grafana's own types, for tsc to judge.
//
// usage: node check.mjs FOLDER DASHBOARD...
//
// A dashboard as a whole must be a `Dashboard`, with nothing missing and nothing unknown. What belongs to a panel
// type (options, custom fields) is open in that type, so it is checked against the panel type's own. Missing fields
// are right there: Grafana puts in the defaults.
import { basename, join } from 'node:path';
import { readFileSync, writeFileSync } from 'node:fs';

// Where `@grafana/schema` has what a panel type may say: options, then custom fields.
const PANELS = {
  heatmap: ['heatmap/panelcfg/x/HeatmapPanelCfg_types.gen', 'Options', 'FieldConfig'],
  stat: ['stat/panelcfg/x/StatPanelCfg_types.gen', 'Options', null],
  table: ['table/panelcfg/x/TablePanelCfg_types.gen', 'Options', 'FieldConfig'],
  timeseries: ['timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen', 'Options', 'FieldConfig'],
};

// A number stands for itself in an enum of numbers; a word has to be let in. The query of Prometheus is its
// plugin's type, which this package has not.
const PRELUDE = `
import type { AnnotationQuery, Dashboard, DataQuery, FieldConfig, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
type Plain<T> = T extends string ? \`\${T}\` : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Written<T> = T extends string ? \`\${T}\` : T extends object ? { [K in keyof T]?: Written<T[K]> } : T;
interface Query extends DataQuery {
  expr: string; exemplar?: boolean; instant?: boolean; range?: boolean; legendFormat?: string;
  format?: 'heatmap' | 'table' | 'time_series';
}
interface Annotation extends AnnotationQuery {
  expr: string; step?: string; titleFormat?: string; textFormat?: string; tagKeys?: string; useValueForTime?: boolean;
}
type Fields<Custom> = Omit<FieldConfigSource, 'defaults'> & { defaults: Omit<FieldConfig, 'custom'> & { custom?: Written<Custom> } };
type Shown<Type extends string, Options, Custom> = Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'>
  & { type: Type; options: Written<Options>; fieldConfig: Fields<Custom>; targets: Query[] };
type None = Record<string, never>;
`;

function imports() {
  return Object.entries(PANELS)
    .map(([type, [path]]) => `import type * as ${type} from '@grafana/schema/dist/esm/raw/composable/${path}';`)
    .join('\n');
}

function shown() {
  return Object.entries(PANELS)
    .map(([type, [, options, custom]]) => `Shown<'${type}', ${type}.${options}, ${custom ? `${type}.${custom}` : 'None'}>`)
    .join('\n  | ');
}

const [folder, ...files] = process.argv.slice(2);
for (const file of files) {
  const text = readFileSync(file, 'utf8');
  for (const { type } of JSON.parse(text).panels) {
    if (type !== 'row' && !PANELS[type]) throw new Error(`${file}: the panel type ${type} has no types here`);
  }
  const source = `// ${file}
${imports()}
${PRELUDE}
type Ours = Omit<Dashboard, 'panels' | 'annotations'>
  & { annotations: { list: Annotation[] }; panels: Array<RowPanel
  | ${shown()}> };
export const dashboard: Plain<Ours> =
${text.trimEnd()};
`;
  writeFileSync(join(folder, `${basename(file, '.json')}.ts`), source);
}
