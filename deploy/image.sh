#!/usr/bin/env bash
# Builds deploy/Dockerfile without Docker and without a registry, starts the image and computes the quickstart
# in it. The base comes from debootstrap, the binary from this machine, the result goes to target/image/oci.
#
#   image.sh [BINARY]            the image around a binary built on this machine
#   image.sh --from-source       the builder stage too, with this machine's toolchain
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-target/release/graticule}
suite=bookworm
work=$PWD/target/image
name=localhost/graticule

[ "$(id -u)" -eq 0 ] || { echo "debootstrap and runc need root: run this as root" >&2; exit 1; }
deploy/deps.sh image
[ "$binary" = --from-source ] || [ -x "$binary" ] || { echo "no binary at $binary: \`make build\`" >&2; exit 1; }
step() { echo; echo "[$((SECONDS - started)) s] $*"; }
started=$SECONDS

# A storage of its own: nothing is left in the system's, and `vfs` needs no kernel module.
buildah() { command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
# A container that still holds a mount would make removing fail.
clean() { rm -rf "$work/storage" "$work/run" "$work/base" "$work/bundle" "$work/state"; }
clean; trap clean EXIT
mkdir -p "$work"

step "a minimal Debian $suite"
# The sources this machine's own apt uses, so that a mirror set up there is used here.
mapfile -t sources < <(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
  'Created-By: Packages' 'Origin: Debian' | grep -E " $suite(-updates|-security)? " | sort -u)
mirror=$(printf '%s\n' "${sources[@]}" | awk -v suite="$suite" '$2 == suite { print $1; exit }')
if [ -z "$mirror" ]; then
  echo "image: apt of this machine has no source of Debian $suite; add one to /etc/apt/sources.list and run \`apt-get update\`" >&2
  exit 1
fi
eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
if [ -n "${http_proxy:-}" ]; then export http_proxy; fi
debootstrap --variant=minbase --include=ca-certificates "$suite" "$work/base" "$mirror" >"$work/debootstrap.log" 2>&1 ||
  { tail -20 "$work/debootstrap.log" >&2; exit 1; }
printf 'deb %s\n' "${sources[@]}" >"$work/base/etc/apt/sources.list"
# As in Debian's own slim images: no manuals, no translations.
cat >"$work/base/etc/dpkg/dpkg.cfg.d/slim" <<'SLIM'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
SLIM
rm -rf "$work/base"/var/lib/apt/lists/* "$work/base"/var/cache/apt/*.bin "$work/base"/var/cache/apt/archives/*.deb \
  "$work/base"/usr/share/{info,locale,man}/* "$work/base"/var/log/*.log
find "$work/base/usr/share/doc" -mindepth 2 ! -name copyright ! -type d -delete
base=$(buildah from scratch)
buildah copy --quiet "$base" "$work/base" / >/dev/null
buildah config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$base"
buildah commit --quiet "$base" localhost/base >/dev/null
rm -rf "$work/base"

arguments=(--build-arg RUNTIME_BASE=localhost/base)
if [ "$binary" = --from-source ]; then
  step "this machine's Rust, as the builder's base"
  builder=$(buildah from localhost/base)
  buildah copy --quiet "$builder" "$(rustc --print sysroot)" /usr/local/rust >/dev/null
  buildah config --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --env CARGO_HOME=/usr/local/cargo "$builder"
  buildah commit --quiet "$builder" localhost/builder >/dev/null
  arguments+=(--build-arg BUILDER_BASE=localhost/builder)
else
  made=$(buildah from scratch)
  buildah copy --quiet --chmod 755 "$made" "$binary" /graticule >/dev/null
  buildah commit --quiet "$made" localhost/binary >/dev/null
  arguments+=(--build-arg BINARY=localhost/binary --build-arg BUILDER_BASE=localhost/base)
fi

step "deploy/Dockerfile"
version=$(sed -nE '/^\[workspace.package\]/,/^\[/ s/^version = "(.*)"/\1/p' Cargo.toml)
buildah bud --isolation chroot --pull-never --format oci --file deploy/Dockerfile --tag "$name" \
  --build-arg VERSION="$version" --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
  "${arguments[@]}" . >"$work/build.log" 2>&1 || { tail -30 "$work/build.log" >&2; exit 1; }

step "target/image/oci"
rm -rf "$work/oci"
buildah push --quiet "$name" "oci:$work/oci:$version" >/dev/null

step "the quickstart in the container and beside it"
umoci unpack --image "$work/oci:$version" "$work/bundle" >"$work/unpack.log" 2>&1 || { cat "$work/unpack.log" >&2; exit 1; }
mkdir -p "$work"/{state/container,state/runc,out}
rm -rf "$work"/out/*
chown 10001:10001 "$work/state/container" "$work/out"
# What `docker run --read-only --network none --cap-drop all --tmpfs /tmp` would ask for. Who it runs as, what is
# run and where data are stays as the image says.
python3 - "$work" "$PWD/examples" <<'PYTHON'
import json, sys

work, examples = sys.argv[1:]
path = f"{work}/bundle/config.json"
config = json.load(open(path))
user, entrypoint = config["process"]["user"], config["process"]["args"]
assert (user["uid"], user["gid"]) == (10001, 10001), f"runs as {user}"
assert entrypoint[0] == "graticule", entrypoint
config["root"]["readonly"] = True
config["process"].update(terminal=False, noNewPrivileges=True)
config["process"]["capabilities"] = {kind: [] for kind in config["process"]["capabilities"]}
data = "/var/lib/graticule"
config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] not in (data, "/tmp")] + [
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
    {"destination": data, "type": "bind", "source": f"{work}/state/container", "options": ["rbind", "rw"]},
    {"destination": "/examples", "type": "bind", "source": examples, "options": ["rbind", "ro"]},
    {"destination": "/out", "type": "bind", "source": f"{work}/out", "options": ["rbind", "rw"]},
]
json.dump(config, open(path, "w"))
PYTHON
contained() { # ARGUMENT...: runs the image's entry point with these
  python3 - "$work/bundle/config.json" "$@" <<'PYTHON'
import json, sys

path, *arguments = sys.argv[1:]
config = json.load(open(path))
config["process"]["args"][1:] = arguments
json.dump(config, open(path, "w"))
PYTHON
  runc --root "$work/state/runc" run --bundle "$work/bundle" "graticule-image-$$"
}
colour=(--bounds 330000,5814360,345360,5822040 --crs EPSG:32633 --resolution 10)
median=(--bounds 336375,4460595,338205,4462425 --crs EPSG:32613 --resolution 30)
contained --version
contained catalog add /examples/potsdam /examples/colorado
contained compute /examples/true_colour.graft.json "${colour[@]}" --out /out/true_colour.png
contained compute /examples/ndvi_median.graft.json "${median[@]}" --out /out/ndvi.tif --out /out/ndvi.npz

if [ "$binary" = --from-source ]; then
  binary=$work/bundle/rootfs/usr/local/bin/graticule
fi
export GRATICULE_DATA=$work/state/host
mkdir -p "$work/out/host"
"$binary" catalog add examples/potsdam examples/colorado >/dev/null
"$binary" compute examples/true_colour.graft.json "${colour[@]}" --out "$work/out/host/true_colour.png" >/dev/null
"$binary" compute examples/ndvi_median.graft.json "${median[@]}" --out "$work/out/host/ndvi.tif" \
  --out "$work/out/host/ndvi.npz" >/dev/null
for file in true_colour.png ndvi.tif ndvi.npz; do cmp "$work/out/$file" "$work/out/host/$file"; done

step "done: the same bytes as on this machine"
echo "target/image/oci  $(du -sh "$work/oci" | cut -f1) compressed, $(du -sh "$work/bundle/rootfs" | cut -f1) unpacked"
echo "  skopeo copy oci:target/image/oci:$version docker://REGISTRY/graticule:$version     to a registry"
echo "  skopeo copy oci:target/image/oci:$version docker-archive:graticule.tar:graticule:$version && docker load -i graticule.tar"
