# shellcheck shell=bash
# Puts Fashion-MNIST where the program finds it. It comes from the mirrors, else from Debian's package.

data_package=dataset-fashion-mnist

# Whether resnet with these arguments may need Fashion-MNIST and may download it. Sets RESNET_DATA if the
# arguments name the data folder.
wants_data() {
  local previous='' argument command=''
  for argument; do
    case $previous in
      --dataset) [[ $argument == fashion-mnist ]] || return 1 ;;
      --data-dir) export RESNET_DATA=$argument ;;
    esac
    case $argument in
      --offline | -h | --help) return 1 ;;
      --dataset=*) [[ ${argument#*=} == fashion-mnist ]] || return 1 ;;
      --data-dir=*) export RESNET_DATA=${argument#*=} ;;
      -*) ;;
      *) command=${command:-$argument} ;;
    esac
    previous=$argument
  done
  [[ $command == train || $command == eval || $command == gradients || $command == grow ]]
}

# Whether Fashion-MNIST seems to be there, without starting the program. Also true if RESNET_DATA names a
# folder that does not exist, because the program itself reports this.
has_data() {
  local folder
  if [[ -n ${RESNET_DATA:-} ]]; then
    [[ ! -d $RESNET_DATA || -e $RESNET_DATA/fashion-mnist ]]
    return
  fi
  for folder in "${XDG_CACHE_HOME:-${HOME:-}/.cache}/resnet/datasets" /usr/share/datasets; do
    [[ ! -e $folder/fashion-mnist ]] || return 0
  done
  return 1
}

# Missing images do not end the setup: the program says so itself when it needs them.
data_step() {
  local resnet=$1
  [[ -x $resnet ]] || fail data "$resnet, which downloads the data, is not built" "scripts/setup build"
  if "$resnet" data path fashion-mnist >/dev/null 2>&1; then
    say "data: Fashion-MNIST is ready"
    return
  fi
  say "data: downloading Fashion-MNIST"
  if "$resnet" data fetch fashion-mnist >&2; then
    return
  fi
  if ! command -v apt-get >/dev/null; then
    say "data: Fashion-MNIST is missing; connect to the internet and run scripts/setup data"
  elif say "data: trying Debian's package $data_package" && data_from_debian >&2 &&
    "$resnet" data path fashion-mnist >/dev/null; then
    say "data: Fashion-MNIST is ready, from Debian's package"
  else
    say "data: Fashion-MNIST is missing: neither its mirrors nor Debian's package could be downloaded;" \
      "connect to the internet and run scripts/setup data"
  fi
}

data_from_debian() {
  # If RESNET_DATA names a folder, the program does not look in the folder of an installed package.
  if [[ $EUID == 0 && -z ${RESNET_DATA:-} ]]; then
    # The package lists of a fresh machine are empty.
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq -y "$data_package" ||
      { apt-get update -qq && apt-get install -qq -y "$data_package"; }
  else
    data_from_debian_unpacked
  fi
}

# Unpacks the package into RESNET_DATA or the data cache, without installing it.
data_from_debian_unpacked() (
  cache=${RESNET_DATA:-${XDG_CACHE_HOME:-$HOME/.cache}/resnet/datasets}
  mkdir -p "$cache" || exit
  package=$(mktemp -d "$cache/.debian.XXXXXX") || exit
  trap 'rm -rf "$package"' EXIT
  cd "$package" && apt-get download -qq "$data_package" && dpkg-deb -x ./*.deb . || exit
  mv usr/share/datasets/fashion-mnist "$cache/fashion-mnist"
)
