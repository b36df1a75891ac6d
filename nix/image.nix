# The stages of one image. Each stage names exactly what it reads, so that a change of a template or of a configuration file
# rebuilds the root and the image, and no package layer.
#
# `lockOf` gives for a name the path of its lock and whether it is a refreshed one; `archiveOf` the built archive of a
# container image.
{ system, tree, name, tools, artifact, lockOf, toolsLock, archiveOf }:
let
  lockedOf = name: builtins.fromJSON (builtins.readFile (lockOf name).path);
  locked = lockedOf name;
  stagesDir = tree + "/src/hubsmith/build/stages";
  stage = stageName: args: tools.stage ({ name = "${name}-${stageName}"; } // args // {
    script = builtins.path { path = stagesDir + "/${args.script}.py"; name = "${args.script}.py"; };
  });

  # Of an image that extends another one the lock says it: only Python resolves `extends`.
  defined =
    let own = builtins.fromTOML (builtins.readFile (tree + "/images/${name}.toml"));
    in
    locked.inherited or {
      suite = own.image.suite or "trixie";
      containers = own.image.containers or [ ];
      container = own ? container;
    };
  inherit (defined) suite containers;

  debs = map
    (deb: { inherit (deb) name version; file = builtins.baseNameOf deb.path; store = artifact { file = builtins.baseNameOf deb.path; inherit (deb) sha256; }; })
    locked.debian;

  packages = stage "packages" { script = "packages"; spec = { inherit debs suite; }; };

  wheels = env: stage "python-${env}" {
    script = "python_env";
    spec = {
      inherit env;
      wheels = map (wheel: { inherit (wheel) file; store = artifact { inherit (wheel) file sha256; }; }) locked.python.${env}.wheels;
    };
  };

  npmFile = package: "${builtins.replaceStrings [ "/" "@" ] [ "-" "" ] package.name}-${package.version}.tgz";
  npm = env: stage "npm-${env}" {
    script = "npm_env";
    spec = {
      inherit env;
      packages = map (package: { inherit (package) location bin; store = artifact { file = npmFile package; inherit (package) sha256; }; }) locked.npm.${env}.packages;
    };
  };

  envs = map wheels (builtins.attrNames locked.python) ++ map npm (builtins.attrNames locked.npm);

  # A part of the Python package, as `PYTHONPATH` for stages. `wanted` is asked for every path below src/hubsmith.
  package = name: wanted: builtins.path {
    inherit name;
    path = tree + "/src";
    filter = path: type:
      let
        relative = builtins.substring (builtins.stringLength (toString tree) + 5) (-1) (toString path); # below src/
        inner = builtins.substring 9 (-1) relative; # below hubsmith/
      in
      relative == "hubsmith" || builtins.substring 0 9 relative == "hubsmith/" && builtins.baseNameOf relative != "__pycache__" && wanted inner;
  };
  roomOf = inner: builtins.head (builtins.filter builtins.isString (builtins.split "/" inner));
  # What the manifest, the stages and the guest are made of: whole rooms, single files, and what only the build machine
  # runs of those rooms. The rest (command line, virtual machines, solving, fetching) cannot change an image.
  rooms = [ "definition" "plan" "settings" "guest" "disk" "build" ];
  files = [
    "__init__.py" "errors.py" "files.py" "paths.py" "run.py" "words.py"
    "lock" "lock/__init__.py" "lock/files.py" "lock/inputs.py" "lock/models.py"
  ];
  leftOut = [ "build/nix.py" "build/nixlog.py" "plan/golden.py" "plan/summary.py" ];
  sources = package "hubsmith-src" (inner: builtins.elem inner files || builtins.elem (roomOf inner) rooms && !builtins.elem inner leftOut);
  # What joins the packages' layers: a change of anything else leaves them alone.
  joining = package "hubsmith-join" (inner: builtins.elem inner [ "__init__.py" "build" "build/__init__.py" "build/erofs.py" "build/rules.py" "build/tree.py" ]);
  modules = builtins.path { path = tree + "/modules"; name = "hubsmith-modules"; filter = path: _: builtins.baseNameOf path != "__pycache__"; };
  # What an image is planned from: it and its container images, and the definitions of those that these extend.
  planned = [ name ] ++ containers;
  bases = builtins.concatMap (name: (lockedOf name).inherited.bases or [ ]) planned;
  each = of: names: builtins.listToAttrs (map (name: { inherit name; value = of name; }) names);

  nix = builtins.path { path = tree + "/nix"; name = "hubsmith-nix"; filter = path: _: builtins.match ".*\\.(nix|sh)" path != null; };
  manifest = stage "manifest" {
    script = "manifest";
    inherit sources;
    spec = {
      image = name;
      definitions = each (name: builtins.path { path = tree + "/images/${name}.toml"; name = "${name}.toml"; }) (planned ++ bases);
      locks = each (name: { path = builtins.path { path = (lockOf name).path; name = "${name}.lock.json"; }; inherit (lockOf name) refreshed; }) planned;
      inherit modules nix;
      tools_lock = builtins.path { path = toolsLock; name = "tools.lock.json"; };
    };
  };

  initrd = stage "initrd" {
    script = "initrd";
    spec = { inherit packages; dracut = builtins.path { path = tree + "/modules/boot/dracut"; name = "dracut"; }; };
  };
  base = stage "base" { script = "base"; sources = joining; spec = { inherit packages envs; epoch = locked.source_date_epoch; containers = map archiveOf containers; }; };
  root = stage "root" { script = "root"; inherit sources; spec = { inherit name base manifest modules; }; };
  disk = stage "disk" { script = "disk"; inherit sources; spec = { inherit name root initrd manifest; }; };
  image = stage "image" { script = "image"; inherit sources; spec = { inherit name root initrd manifest; }; };
  container = stage "container" { script = "container"; inherit sources; spec = { inherit name packages envs manifest modules; }; };
in
if defined.container
then { inherit packages envs manifest; image = container; }
else { inherit packages envs base manifest initrd root disk image; }
