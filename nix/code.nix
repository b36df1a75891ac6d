# Which files of the Python package a stage is made of: its own imports, followed to their end.
#
# `hubsmith.code` finds the same with Python's own parser, for the manifest; tests/unit/test_identity.py compares the two.
src:
let
  exists = path: builtins.pathExists (src + "/${path}");
  slashes = builtins.replaceStrings [ "." ] [ "/" ];

  # The dotted names that a file imports: `import hubsmith.a`, `from hubsmith.a import b, c` and the same with parentheses.
  imported = path:
    let
      statement = "(^|\n) *(from|import) +(hubsmith[A-Za-z0-9_.]*)( +import +([(][^)]*[)]|[^\n]*))?";
      found = builtins.filter builtins.isList (builtins.split statement (builtins.readFile (src + "/${path}")));
      words = text: builtins.filter (word: builtins.isString word && word != "") (builtins.split "[^A-Za-z0-9_]+" text);
      names = match: let module = builtins.elemAt match 2; more = builtins.elemAt match 4; in
        [ module ] ++ map (name: "${module}.${name}") (if more == null then [ ] else words more);
    in
    builtins.concatLists (map names found);

  # What Python reads to import a name: the `__init__.py` of each package above it, and its own file.
  filesOf = dotted:
    let
      parts = builtins.filter builtins.isString (builtins.split "[.]" dotted);
      prefix = count: builtins.concatStringsSep "/" (builtins.genList (builtins.elemAt parts) count);
      candidates = builtins.concatLists (builtins.genList (index: let path = prefix (index + 1); in [ "${path}/__init__.py" "${path}.py" ]) (builtins.length parts));
    in
    builtins.filter exists candidates;

  closure = paths: map (node: node.key) (builtins.genericClosure {
    startSet = map (key: { inherit key; }) paths;
    operator = { key }: if builtins.match ".*[.]py" key == null then [ ] else
    map (key: { inherit key; }) (builtins.concatLists (map filesOf (imported key)));
  });

  # Every file below a folder but what Python leaves there.
  below = folder: builtins.concatLists (map
    (name:
      let path = "${folder}/${name}"; in
      if name == "__pycache__" then [ ]
      else if (builtins.readDir (src + "/${folder}")).${name} == "directory" then below path else [ path ])
    (builtins.attrNames (builtins.readDir (src + "/${folder}"))));

  # A path and the folders above it.
  upwards = path:
    let parts = builtins.filter builtins.isString (builtins.split "/" path); in
    builtins.genList (count: builtins.concatStringsSep "/" (builtins.genList (builtins.elemAt parts) (count + 1))) (builtins.length parts);
in
{
  stageFile = script: "hubsmith/build/stages/${script}.py";
  inherit below closure upwards;
}
