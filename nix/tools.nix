# The toolchain: a root of Debian packages, extracted only (no maintainer script runs), the same on every machine.
{ system, artifact, lock }:
let
  # The one program that needs no loader and no library: it extracts all the others.
  busybox = derivation {
    inherit system;
    name = "busybox";
    builder = "builtin:fetchurl";
    url = "file:///busybox-is-not-fetched/mend/hubsmith-fetch";
    executable = false;
    unpack = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = lock.busybox.nar_sha256;
  };
  basename = path: builtins.baseNameOf path;
  debs = map (deb: artifact busybox { file = basename deb.path; inherit (deb) sha256; }) lock.debian;
  root = derivation {
    inherit system;
    name = "hubsmith-tools";
    builder = "${busybox}/bin/busybox";
    args = [ "sh" ./tools.sh ];
    busybox = "${busybox}/bin/busybox";
    passAsFile = [ "debs" ];
    debs = builtins.concatStringsSep "\n" debs;
  };
in
{
  inherit busybox root;

  # A stage: `python3 STAGE SPEC` in a root-like namespace on top of the tools root. `spec` reaches it as a JSON file.
  stage = { name, script, spec, sources ? null }: derivation {
    inherit system name script sources;
    builder = "${busybox}/bin/busybox";
    args = [ "sh" ./enter.sh ];
    busybox = "${busybox}/bin/busybox";
    tools = root;
    passAsFile = [ "spec" ];
    spec = builtins.toJSON spec;
    epoch = toString lock.source_date_epoch;
  };
}
