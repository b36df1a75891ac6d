# The stages of one image. Each stage names exactly what it reads, so that a change of a template or of a configuration file
# rebuilds the root and the image, and no package layer.
#
# `lockOf` gives for a name the path of its lock and whether it is a refreshed one; `archiveOf` the built archive of a
# container image.
{ system, tree, name, tools, artifact, lockOf, toolsLock, archiveOf }:
let
  lockedOf = name: builtins.fromJSON (builtins.readFile (lockOf name).path);
  locked = lockedOf name;
  code = import ./code.nix (tree + "/src");

  # Files of the Python package, as `PYTHONPATH` for stages.
  package = name: paths:
    let
      wanted = builtins.listToAttrs (map (path: { name = path; value = true; }) (builtins.concatMap code.upwards paths));
      start = builtins.stringLength (toString tree + "/src/");
    in
    builtins.path {
      inherit name;
      path = tree + "/src";
      filter = path: _: wanted ? ${builtins.substring start (-1) (toString path)};
    };

  # A stage sees its own script and what that imports.
  stage = stageName: { script, ... }@args:
    let
      file = code.stageFile script;
      imports = builtins.filter (path: path != file) (code.closure [ file ]);
    in
    tools.stage (args // {
      name = "${name}-${stageName}";
      sources = if imports == [ ] then null else package "hubsmith-${script}" imports;
      script = builtins.path { path = tree + "/src/${file}"; name = "${script}.py"; };
    });

  # Of an image that extends another one the lock says it: only Python resolves `extends`.
  definedOf = image:
    let own = builtins.fromTOML (builtins.readFile (tree + "/images/${image}.toml"));
    in
    (lockedOf image).inherited or {
      suite = own.image.suite or "trixie";
      containers = own.image.containers or [ ];
      container = own ? container;
    };
  defined = definedOf name;
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

  scriptsOf = image: [ "packages" ]
    ++ (if (lockedOf image).python == { } then [ ] else [ "python_env" ])
    ++ (if (lockedOf image).npm == { } then [ ] else [ "npm_env" ])
    ++ (if (definedOf image).container then [ "container" ] else [ "base" "initrd" "root" "image" ]);

  envs = map wheels (builtins.attrNames locked.python) ++ map npm (builtins.attrNames locked.npm);

  # What the machine itself runs of the package.
  guest = if defined.container then [ ] else code.closure (code.below "hubsmith/guest" ++ code.below "hubsmith/settings");

  # The folders of an image's modules and of all that these require, by name, without what is no part of an image.
  modulesOf = image:
    let
      folder = module: tree + "/modules/${module}";
      named = image: (builtins.fromTOML (builtins.readFile (tree + "/images/${image}.toml"))).image.modules or [ ];
      known = builtins.filter (module: builtins.pathExists (folder module)); # the stage `manifest` says which are not
      requires = module: (builtins.fromTOML (builtins.readFile (folder module + "/module.toml"))).module.requires or [ ];
      all = builtins.genericClosure {
        startSet = map (key: { inherit key; }) (known (builtins.concatMap named ([ image ] ++ basesOf image)));
        operator = { key }: map (key: { inherit key; }) (known (requires key));
      };
    in
    builtins.listToAttrs (map
      ({ key }: {
        name = key;
        value = builtins.path {
          path = folder key;
          name = "module-${key}";
          filter = path: _: builtins.baseNameOf path != "__pycache__"
            && ! builtins.elem (toString path) (map (name: toString (folder key + "/${name}")) [ "check.py" "README.md" ]);
        };
      })
      all);
  modules = modulesOf name;
  # What an image is planned from: it and its container images, and the definitions of those that these extend.
  planned = [ name ] ++ containers;
  basesOf = image: (lockedOf image).inherited.bases or [ ];
  each = of: names: builtins.listToAttrs (map (name: { inherit name; value = of name; }) names);

  nix = builtins.path { path = tree + "/nix"; name = "hubsmith-nix"; filter = path: _: builtins.match ".*\\.(nix|sh)" path != null; };
  manifest = stage "manifest" {
    script = "manifest";
    spec = {
      image = name;
      # The manifest has the checksums of all code that makes the image or is in it, and those of its containers.
      code = package "hubsmith-code" (guest ++ code.closure (map code.stageFile (builtins.concatMap scriptsOf planned)));
      definitions = each (name: builtins.path { path = tree + "/images/${name}.toml"; name = "${name}.toml"; })
        (planned ++ builtins.concatMap basesOf planned);
      locks = each (name: { path = builtins.path { path = (lockOf name).path; name = "${name}.lock.json"; }; inherit (lockOf name) refreshed; }) planned;
      modules = builtins.foldl' (all: container: all // modulesOf container) modules containers;
      inherit nix;
      tools_lock = builtins.path { path = toolsLock; name = "tools.lock.json"; };
    };
  };

  initrd = stage "initrd" {
    script = "initrd";
    spec = { inherit packages; dracut = builtins.path { path = tree + "/modules/boot/dracut"; name = "dracut"; }; };
  };
  base = stage "base" { script = "base"; spec = { inherit packages envs; epoch = locked.source_date_epoch; containers = map archiveOf containers; }; };
  root = stage "root" { script = "root"; spec = { inherit name base manifest modules; guest = package "hubsmith-guest" guest; }; };
  disk = stage "disk" { script = "disk"; spec = { inherit name root initrd manifest; }; };
  image = stage "image" { script = "image"; spec = { inherit name root initrd manifest; }; };
  container = stage "container" { script = "container"; spec = { inherit name packages envs manifest modules; }; };
in
if defined.container
then { inherit packages envs manifest; image = container; }
else { inherit packages envs base manifest initrd root disk image; }
