# shellcheck shell=bash
# Puts libtorch into .libtorch: from $LIBTORCH, else from the official zip, else from PyPI's wheel. A script that
# needs it in another folder sets `libtorch_folder`.

: "${root:?}"
: "${libtorch_folder:=$root/.libtorch}"
libtorch_wanted=2.11.0

libtorch_step() {
  local kind=$1 # cpu or cuda
  if [[ -n ${LIBTORCH:-} && $LIBTORCH != "$libtorch_folder" ]]; then
    libtorch_from_environment "$kind"
  elif ! libtorch_fits "$libtorch_folder" "$kind"; then
    libtorch_lock
    # Another setup may have finished this while this one waited for the lock.
    libtorch_fits "$libtorch_folder" "$kind" || libtorch_fetch "$kind"
    libtorch_unlock
  fi
  say "libtorch: $(libtorch_version "${LIBTORCH:-$libtorch_folder}") is ready"
}

# Prints the version of the libtorch in a folder. Official packages and Python's torch have it in different
# files. Prints nothing if there is no libtorch.
libtorch_version() {
  if [[ -r $1/build-version ]]; then
    tr -d '[:space:]' <"$1/build-version"
  elif [[ -r $1/version.py ]]; then
    sed -n "s/^__version__ = ['\"]\\(.*\\)['\"]/\\1/p" "$1/version.py"
  fi
}

# Whether a folder holds a whole libtorch of the wanted version and kind.
libtorch_fits() {
  local version suffix=so
  [[ $(uname -s) == Darwin ]] && suffix=dylib
  version=$(libtorch_version "$1")
  [[ ${version%%+*} == "$libtorch_wanted" && -e $1/lib/libtorch_cpu.$suffix &&
    -e $1/include/ATen/ATen.h && ($2 == cpu || -e $1/lib/libtorch_cuda.so) ]]
}

# Uses the libtorch that the user has: .libtorch becomes a link to it.
libtorch_from_environment() {
  local kind=$1 version remedy
  version=$(libtorch_version "$LIBTORCH")
  remedy="unset LIBTORCH, and setup downloads a libtorch"
  [[ $LIBTORCH == /* ]] || fail libtorch "LIBTORCH=$LIBTORCH is not an absolute path" "$remedy"
  [[ ${version%%+*} == "$libtorch_wanted" ]] || fail libtorch \
    "LIBTORCH=$LIBTORCH holds version ${version:-unknown}, $libtorch_wanted is wanted" "$remedy"
  libtorch_fits "$LIBTORCH" cpu ||
    fail libtorch "LIBTORCH=$LIBTORCH lacks lib/libtorch_cpu or include/ATen" "$remedy"
  libtorch_fits "$LIBTORCH" "$kind" ||
    fail libtorch "LIBTORCH=$LIBTORCH is built for CPU: no lib/libtorch_cuda.so" "$remedy"
  # A .libtorch that was downloaded is not changed, because cargo prefers $LIBTORCH anyway.
  if [[ -L $libtorch_folder || ! -e $libtorch_folder ]]; then
    ln -sfn "$LIBTORCH" "$libtorch_folder"
  fi
}

# Only one setup downloads at a time. macOS has no flock, so there two setups may both download.
libtorch_lock() {
  if command -v flock >/dev/null; then
    exec 9>"$libtorch_folder.lock"
    if ! flock --nonblock 9; then
      say "libtorch: waiting for another setup that downloads it"
      flock 9
    fi
    # Files of a setup that was killed. No other setup uses them, because this one holds the lock.
    rm -rf "$libtorch_folder".work.*
  fi
}

libtorch_unlock() {
  exec 9>&-
}

# Downloads into a folder beside .libtorch and renames it at the end, so that .libtorch is never incomplete.
libtorch_fetch() {
  local kind=$1 version
  work=$(mktemp -d "$libtorch_folder.work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  libtorch_from_zip "$kind" || libtorch_from_wheel "$kind"
  libtorch_fits "$work/libtorch" "$kind" || {
    version=$(libtorch_version "$work/libtorch")
    fail libtorch "the download is not a libtorch $libtorch_wanted for $kind (version ${version:-unknown})" \
      "check RESNET_LIBTORCH_URL, or set LIBTORCH to a libtorch $libtorch_wanted of your own"
  }
  if [[ -e $libtorch_folder || -L $libtorch_folder ]]; then
    say "libtorch: replacing version $(libtorch_version "$libtorch_folder")"
    mv "$libtorch_folder" "$work/old"
  fi
  mv "$work/libtorch" "$libtorch_folder"
  rm -rf "$work"
  trap - EXIT
}

# Prints the address of the official zip for this machine, or nothing if there is none.
libtorch_zip_url() {
  local base=https://download.pytorch.org/libtorch
  case $1-$(uname -s)-$(uname -m) in
    cpu-Linux-x86_64) echo "$base/cpu/libtorch-shared-with-deps-$libtorch_wanted%2Bcpu.zip" ;;
    cuda-Linux-x86_64) echo "$base/cu130/libtorch-shared-with-deps-$libtorch_wanted%2Bcu130.zip" ;;
    cpu-Darwin-arm64) echo "$base/cpu/libtorch-macos-arm64-$libtorch_wanted.zip" ;;
  esac
}

# Returns 1 if the zip cannot be downloaded or unpacked and the wheel should be tried.
libtorch_from_zip() {
  local url zip=$work/libtorch.zip problem curl unpack
  url=${RESNET_LIBTORCH_URL:-$(libtorch_zip_url "$1")}
  [[ -n $url ]] || return 1
  need libtorch curl curl "brew install curl"
  curl=(curl --fail --location --connect-timeout 10)
  # This first request has no retries, so that the wheel is tried soon if the server cannot be reached.
  if ! problem=$("${curl[@]}" --silent --show-error --head --max-time 30 --output /dev/null \
    "$url" 2>&1); then
    libtorch_zip_failed "$url" "${problem##*$'\n'}"
    return 1
  fi
  say "libtorch: downloading $url"
  if [[ -t 2 ]]; then curl+=(--progress-bar); else curl+=(--silent --show-error); fi
  # A download that is slower than 10 kB/s for a minute counts as stalled.
  if ! "${curl[@]}" --retry 3 --speed-limit 10000 --speed-time 60 --output "$zip" "$url" >&2; then
    libtorch_zip_failed "$url" "the download was interrupted"
    return 1
  fi
  say "libtorch: unpacking"
  # Both check the length and the checksum of every file in the archive.
  if command -v unzip >/dev/null; then
    unpack=(unzip -q "$zip" -d "$work")
  elif command -v python3 >/dev/null; then
    unpack=(python3 -m zipfile -e "$zip" "$work")
  else
    fail libtorch "neither unzip nor python3 is installed" "$(install_command unzip 'brew install unzip')"
  fi
  if "${unpack[@]}" >&2; then
    libtorch_link_names "$work/libtorch/lib"
    problem=$(libtorch_lacks "$work/libtorch/lib")
    [[ -n $problem ]] || return 0
  else
    problem="it can't be unpacked, for the reason shown above"
  fi
  rm -rf "$work/libtorch"
  libtorch_zip_failed "$url" "$problem"
  return 1
}

# The official zip adds a hash to the names of some of NVIDIA's libraries (libnvrtc-1a2b3c4d.so.13). Other libraries
# open them by their usual names, so each gets a link of that name.
libtorch_link_names() {
  local file name
  for file in "$1"/*-????????.so*; do
    name=${file##*/}
    [[ $name =~ ^(.+)-[0-9a-f]{8}(\.so.*)$ ]] || continue
    name=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
    [[ -e $1/$name ]] || ln -s "${file##*/}" "$1/$name"
  done
}

# Prints which libraries the CUDA part needs that are not there, or nothing. The driver's library comes with the
# driver.
libtorch_lacks() {
  local missing
  [[ -e $1/libtorch_cuda.so ]] && command -v ldd >/dev/null || return 0
  missing=$(ldd "$1/libtorch_cuda.so" | awk '/=> not found/ && $1 != "libcuda.so.1" { print $1 }')
  [[ -z $missing ]] || printf 'it lacks %s' "$(sort -u <<<"$missing" | paste -sd ' ')"
}

# If the user named a zip, its failure is an error. Only the official zip may be replaced by the wheel.
libtorch_zip_failed() {
  if [[ -n ${RESNET_LIBTORCH_URL:-} ]]; then
    fail libtorch "RESNET_LIBTORCH_URL=$1: $2" "correct RESNET_LIBTORCH_URL or unset it"
  fi
  say "libtorch: cannot use the official zip ($2); using PyPI's wheel instead"
}

libtorch_from_wheel() {
  local kind=$1 download torch wheels=$work/wheels requirements problem
  local helper=("python3" "$root/scripts/lib/wheel.py")
  need libtorch python3 python3-pip "brew install python3"
  problem=$(python3 -m pip --version 2>&1) || fail libtorch "python3 has no pip: ${problem##*$'\n'}" \
    "$(install_command python3-pip 'python3 -m ensurepip')"
  download=(python3 -m pip download --disable-pip-version-check --only-binary=:all:
    --dest "$wheels")
  [[ -t 2 ]] || download+=(--quiet)
  # The libraries are the same in the wheels for all versions of Python. So this takes the wheel for one
  # version, which need not be this machine's. (On macOS, wheels have a tag for the system version, and pip
  # knows which tags fit.)
  torch=("${download[@]}" --no-deps)
  [[ $(uname -s) != Linux ]] ||
    torch+=(--python-version 3.12 --implementation cp --abi cp312
      --platform "manylinux_2_28_$(uname -m)")
  say "libtorch: downloading torch $libtorch_wanted from PyPI (0.5 GB)"
  "${torch[@]}" "torch==$libtorch_wanted" >&2 || fail libtorch "pip can't download torch $libtorch_wanted" \
    "check the connection, or set LIBTORCH to a libtorch $libtorch_wanted of your own"
  requirements=$("${helper[@]}" requirements "$kind" "$wheels"/torch-*.whl) ||
    fail libtorch "torch's wheel can't be read" "try again: the download may be damaged"
  if [[ -n $requirements ]]; then
    say "libtorch: downloading NVIDIA's libraries from PyPI for $kind"
    # There is one requirement per line, without spaces.
    # shellcheck disable=SC2086
    "${download[@]}" $requirements >&2 || fail libtorch "pip can't download NVIDIA's libraries" \
      "check the connection, or set LIBTORCH to a libtorch $libtorch_wanted of your own"
  fi
  say "libtorch: unpacking"
  "${helper[@]}" unpack "$kind" "$work/libtorch" "$wheels"/*.whl ||
    fail libtorch "the wheels can't be unpacked" "check the free space on this disk and try again"
}
