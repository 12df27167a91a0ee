# shellcheck shell=bash
# Puts Fashion-MNIST where the program finds it: from its mirrors, else Debian's package.

data_package=dataset-fashion-mnist

# Whether these arguments of resnet ask for work on Fashion-MNIST and allow to connect for it. Sets
# RESNET_DATA where they name the folder.
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
  [[ $command == train || $command == eval ]]
}

# Whether Fashion-MNIST seems to be there, told without starting the program; or whether the folder
# that was named is not, which the program says itself.
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

# Never ends the set-up: the program says itself what it lacks when it needs the images.
data_step() {
  local resnet=$1
  [[ -x $resnet ]] || fail data "$resnet, which fetches it, is not built" "scripts/setup build"
  if "$resnet" data path fashion-mnist >/dev/null 2>&1; then
    say "data: Fashion-MNIST is ready"
    return
  fi
  say "data: fetching Fashion-MNIST"
  if "$resnet" data fetch fashion-mnist >&2; then
    return
  fi
  if ! command -v apt-get >/dev/null; then
    say "data: no Fashion-MNIST yet; connect to the internet and run scripts/setup data"
  elif say "data: trying Debian's package $data_package" && data_from_debian >&2 &&
    "$resnet" data path fashion-mnist >/dev/null; then
    say "data: Fashion-MNIST is ready, from Debian's package"
  else
    say "data: no Fashion-MNIST yet: neither its mirrors nor Debian's package can be had;" \
      "connect to the internet and run scripts/setup data"
  fi
}

data_from_debian() {
  # Where a folder was named, the package's own one is not looked in.
  if [[ $EUID == 0 && -z ${RESNET_DATA:-} ]]; then
    # The package lists of a fresh machine are empty.
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq -y "$data_package" ||
      { apt-get update -qq && apt-get install -qq -y "$data_package"; }
  else
    data_from_debian_unpacked
  fi
}

# Without installing the package, unpacks it into the folder that was named or the data cache.
data_from_debian_unpacked() (
  cache=${RESNET_DATA:-${XDG_CACHE_HOME:-$HOME/.cache}/resnet/datasets}
  mkdir -p "$cache" || exit
  package=$(mktemp -d "$cache/.debian.XXXXXX") || exit
  trap 'rm -rf "$package"' EXIT
  cd "$package" && apt-get download -qq "$data_package" && dpkg-deb -x ./*.deb . || exit
  mv usr/share/datasets/fashion-mnist "$cache/fashion-mnist"
)
