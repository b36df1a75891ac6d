# The stages of one image. Each stage names exactly what it reads, so that a change of a template or of a configuration file
# rebuilds the root and the disk, and no package layer.
{ system, tree, name, tools, artifact, lock, refreshed }:
let
  locked = builtins.fromJSON (builtins.readFile lock);
  stagesDir = tree + "/src/hubsmith/build/stages";
  stage = stageName: args: tools.stage ({ name = "${name}-${stageName}"; } // args // {
    script = builtins.path { path = stagesDir + "/${args.script}.py"; name = "${args.script}.py"; };
  });

  suite = (builtins.fromTOML (builtins.readFile (tree + "/images/${name}.toml"))).image.suite or "trixie";

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

  # The part of the Python package that the manifest, the stages and the guest are made of. The rest (command line, virtual
  # machines, fetching) cannot change an image.
  rooms = [ "definition" "lock" "plan" "settings" "guest" "disk" "build" ];
  sources = builtins.path {
    path = tree + "/src";
    name = "hubsmith-src";
    filter = path: type:
      let relative = builtins.substring (builtins.stringLength (toString tree) + 5) (-1) (toString path); # below src/
        parts = builtins.filter builtins.isString (builtins.split "/" relative);
      in
      builtins.length parts == 1 && relative == "hubsmith"
      || builtins.length parts == 2 && (type != "directory" && builtins.elem (builtins.elemAt parts 1) [ "__init__.py" "errors.py" "paths.py" "run.py" ]
        || builtins.elem (builtins.elemAt parts 1) rooms)
      || builtins.length parts > 2 && builtins.elem (builtins.elemAt parts 1) rooms && builtins.elemAt parts (builtins.length parts - 1) != "__pycache__";
  };
  modules = builtins.path { path = tree + "/modules"; name = "hubsmith-modules"; filter = path: _: builtins.baseNameOf path != "__pycache__"; };
  definition = builtins.path { path = tree + "/images/${name}.toml"; name = "${name}.toml"; };
  lockSource = builtins.path { path = lock; name = "${name}.lock.json"; };

  manifest = stage "manifest" { script = "manifest"; inherit sources; spec = { image = name; inherit definition modules refreshed; lock = lockSource; }; };

  initrd = stage "initrd" {
    script = "initrd";
    spec = { inherit packages; dracut = builtins.path { path = tree + "/modules/boot/dracut"; name = "dracut"; }; };
  };
  root = stage "root" { script = "root"; inherit sources; spec = { inherit name packages envs manifest modules; }; };
  disk = stage "disk" { script = "disk"; inherit sources; spec = { inherit name root initrd manifest; }; };
  image = stage "image" { script = "image"; inherit sources; spec = { inherit name root disk manifest; }; };
in
{ inherit packages envs manifest initrd root disk image; }
