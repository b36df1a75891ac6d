# The derivation graph of hubsmith: a small Nix library without nixpkgs.
#
#   artifacts (fixed-output) ─> tools ─┬─> packages (.deb) ─┬─> initrd ───────────────────┐
#                                      ├─> env (wheels) ────┼─> base (EROFS) ─┬─> root ───┴─> image (qcow2, SBOM, checksums)
#                                      ├─> env (npm) ───────┘                 │
#                                      └─> manifest (modules, code) ──────────┘
#
# A container image goes from packages, environments and manifest straight to its archive.
#
# `locksPath` is a folder of lock files that go before the committed ones beside the definitions.
{ tree ? ../., locksPath ? null }:
let
  locks = if locksPath == null then null else /. + locksPath;
  system = "x86_64-linux";
  isRefreshed = name: locks != null && builtins.pathExists (locks + "/${name}.lock.json");
  lockIn = folder: name: rec {
    refreshed = isRefreshed name;
    path = (if refreshed then locks else folder) + "/${name}.lock.json";
  };

  # Store names allow fewer characters than Debian's versions do. `store_name` in hubsmith.archives.artifacts is the same rule.
  storeName = name:
    let
      allowed = "[0-9a-zA-Z+._?=-]";
      clean = builtins.concatStringsSep "" (map (c: if builtins.match allowed c != null then c else "_")
        (builtins.filter (c: c != "" && builtins.isString c) (builtins.split "" name)));
    in
    if builtins.substring 0 1 clean == "." then "_${clean}" else clean;

  # A path that `hubsmith fetch` has put into the store. Its builder runs only when it is not there.
  artifact = busybox: { file, sha256 }: derivation {
    inherit system;
    name = storeName file;
    builder = "${busybox}/bin/busybox";
    args = [ "sh" "-c" "echo '${file} is not fetched; mend: hubsmith fetch' >&2; exit 1" ];
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = sha256;
  };

  tools = import ./tools.nix { inherit system artifact; lock = builtins.fromJSON (builtins.readFile (lockIn ./. "tools").path); };

  image = name: import ./image.nix {
    inherit system tree name tools;
    artifact = artifact tools.busybox;
    lockOf = lockIn (tree + "/images");
    toolsLock = (lockIn ./. "tools").path;
    archiveOf = container: { name = container; archive = "${images.${container}.image}/${container}.oci.tar"; };
  };

  images = builtins.listToAttrs (map (file: rec { name = builtins.head (builtins.match "(.*)\\.toml" file); value = image name; })
    (builtins.filter (file: builtins.match ".*\\.toml" file != null) (builtins.attrNames (builtins.readDir (tree + "/images")))));
in
builtins.mapAttrs (_: stages: stages.image) images // {
  inherit (tools) root;
  stages = images;
}
