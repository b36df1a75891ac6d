{
  description = "hubsmith: immutable JupyterHub appliance images";

  # No inputs: the packages are Debian's, PyPI's and npm's, locked beside the image definitions.
  outputs = { self }:
    let
      graph = import ./nix { };
    in
    {
      packages.x86_64-linux = removeAttrs graph [ "stages" "root" ] // { tools = graph.root; };
    };
}
