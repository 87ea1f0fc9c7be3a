"""What transformers makes of chat templates: Python's Jinja, set up as transformers sets it up.

Arguments: a folder of templates (NAME.jinja) and a JSON file of conversations ({name: variables}). Writes to the standard
output a JSON object {template: {conversation: {"Ok": text}, or {"Err": the reason} where the template refuses}}.
"""

import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox


class Generation(jinja2.ext.Extension):
    """The block around what the model writes itself."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        block = jinja2.nodes.CallBlock(self.call_method("_unchanged"), [], [], body)
        return block.set_lineno(line)

    def _unchanged(self, caller):
        return caller()


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def strftime_now(letters):
    return datetime.datetime.now(datetime.timezone.utc).strftime(letters)


def environment():
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, jinja2.ext.loopcontrols],
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    return made


def rendered(template, variables):
    try:
        return {"Ok": template.render(bos_token="<s>", eos_token="</s>", **variables)}
    except Exception as error:  # Whatever stops a rendering is a refusal.
        return {"Err": f"{type(error).__name__}: {error}"}


def main():
    folder, conversations = sys.argv[1:]
    conversations = json.loads(pathlib.Path(conversations).read_text(encoding="utf-8"))
    results = {}
    for path in sorted(pathlib.Path(folder).glob("*.jinja")):
        # In metadata line ends are one character, whatever the system.
        source = path.read_text(encoding="utf-8")
        template = environment().from_string(source)
        results[path.stem] = {
            name: rendered(template, variables)
            for name, variables in conversations.items()
        }
    json.dump(results, sys.stdout)


main()
