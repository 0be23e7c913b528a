#!/usr/bin/env bash
# Builds the container image, or checks the one that was built, with whichever
# builder this machine has: buildah, docker with its engine, or podman. Called
# by `make image` and `make image-check`, from the root of the checkout.
#
#   deploy/image.sh builder                  name the builder that would be used
#   deploy/image.sh build IMAGE:TAG VERSION  build from dist/image
#   deploy/image.sh check IMAGE:TAG VERSION  run it, and compare what it is made of
set -euo pipefail

platform=linux/${GOARCH:-$(go env GOARCH)}

# builder prints the builder to use. A docker client without an engine cannot
# build, so it does not count.
builder() {
	if command -v buildah >/dev/null; then
		echo buildah
	elif command -v docker >/dev/null && docker info >/dev/null 2>&1; then
		echo docker
	elif command -v podman >/dev/null; then
		echo podman
	else
		echo "image: no builder found: install buildah (apt-get install buildah), podman, or docker with a running engine" >&2
		return 1
	fi
}

# fit_sandbox makes buildah work where a container host would not: it needs no
# namespaces for an image without RUN, and where the kernel refuses overlay
# mounts it stores plain copies instead.
fit_sandbox() {
	export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}
	if [[ -z ${STORAGE_DRIVER:-} ]] && ! buildah images >/dev/null 2>&1; then
		export STORAGE_DRIVER=vfs
	fi
}

build() {
	local ref=$1 version=$2
	local args=(--platform "$platform" --build-arg "VERSION=$version" --file deploy/Dockerfile --tag "$ref")
	# Dates in the image are the commit's, so that the same tree gives the same image.
	local stamp
	stamp=$(git log -1 --format=%ct 2>/dev/null || echo 0)

	case $(builder) in
	buildah)
		fit_sandbox
		buildah build --timestamp "$stamp" "${args[@]}" .
		;;
	docker) docker build "${args[@]}" . ;;
	podman) podman build --timestamp "$stamp" "${args[@]}" . ;;
	*) return 1 ;;
	esac
}

check() {
	local ref=$1 version=$2
	case $(builder) in
	buildah)
		fit_sandbox
		# Only root may mount; others get a user namespace in which they are.
		if [[ $(id -u) == 0 ]]; then
			check_mounted "$ref" "$version"
		else
			buildah unshare bash "$0" check-mounted "$ref" "$version"
		fi
		;;
	docker) check_run docker "$ref" "$version" ;;
	podman) check_run podman "$ref" "$version" ;;
	*) return 1 ;;
	esac
}

# check_mounted needs no engine: it mounts the image and runs its binary in a
# chroot, as the image's user.
check_mounted() {
	local ref=$1 version=$2
	fit_sandbox
	local work root
	work=$(buildah from --pull-never "$ref")
	# shellcheck disable=SC2064 # the name is known now, and gone at exit
	trap "buildah rm '$work' >/dev/null" EXIT
	root=$(buildah mount "$work")

	local inside
	inside=$(cd "$root" && find . -mindepth 1 | LC_ALL=C sort | tr '\n' ' ')
	expect "files" "./data ./peal " "$inside"
	expect "owner of /data" "65532:65532" "$(stat -c %u:%g "$root/data")"
	expect "user" "65532:65532" "$(buildah inspect --type image --format '{{.OCIv1.Config.User}}' "$ref")"
	expect "entrypoint and command" "[/peal] [serve]" \
		"$(buildah inspect --type image --format '{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}}' "$ref")"
	expect_version "$version" "$(chroot --userspec=65532:65532 "$root" /peal version)"
}

check_run() {
	local engine=$1 ref=$2 version=$3
	expect "user" "65532:65532" "$("$engine" image inspect --format '{{.Config.User}}' "$ref")"
	expect_version "$version" "$("$engine" run --rm --network none "$ref" version)"
}

expect() {
	local what=$1 want=$2 got=$3
	if [[ $got != "$want" ]]; then
		echo "image-check: $what: got $got, want $want" >&2
		return 1
	fi
	echo "image-check: $what: $got"
}

expect_version() {
	local want=$1 got=$2
	if [[ $got != *"$want"* ]]; then
		echo "image-check: /peal version said '$got', which does not name $want" >&2
		return 1
	fi
	echo "image-check: /peal version as 65532:65532: $got"
}

case ${1:-} in
builder) builder ;;
build) build "$2" "$3" ;;
check) check "$2" "$3" ;;
check-mounted) check_mounted "$2" "$3" ;;
*)
	echo "usage: deploy/image.sh builder | build IMAGE:TAG VERSION | check IMAGE:TAG VERSION" >&2
	exit 2
	;;
esac
