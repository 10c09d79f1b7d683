# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # parameters of the task, and what the other parts set or use
# Get the artefact and prove it. $url and $sha256 (may be empty) are parameters; what is proved is the file `artefact`.
# $uploaded: the publisher has put it there. $proxy: where downloads go through, or empty.
if [ -n "${proxy:-}" ]; then
  http_proxy=$proxy
  https_proxy=$proxy
  export http_proxy https_proxy
fi

# The URL may carry a signature: it goes to the program over stdin, not in its arguments.
curl_url() {
  printf 'url = "%s"\n' "$url" |
    curl -K - -gfsSL --proto '=http,https' --proto-redir '=http,https' --max-redirs 5 --connect-timeout 30 "$@"
}

# capped COMMAND...: no file that it writes may have more than `most` bytes (ulimit counts blocks of 512). Writing more is an
# error to the command; without the trap it would be its end, and a core file.
capped() (
  trap '' XFSZ
  ulimit -f $((most / 512 + 1))
  "$@"
)

# fetch_once SECONDS: go on where the file ends. Sets $status to the program's, $http to the last answer's code where it can be
# known, and $why to what went wrong.
fetch_once() {
  http=
  status=0
  program=wget
  ! command -v curl >/dev/null 2>&1 || program=curl
  if [ "$program" = curl ]; then
    http=$(capped curl_url -C - -o artefact --max-time "$1" --speed-limit 1024 --speed-time 60 --max-filesize "$most" \
      -w '%{http_code}' 2>fetch.err) || status=$?
    [ "$http" != 000 ] || http=
    why="$(tail -n 1 fetch.err)${http:+ (HTTP $http)}"
  else
    capped wget_within "$1" 2>fetch.err || status=$?
    http=$(sed -n 's/.* ERROR \([45][0-9][0-9]\): .*/\1/p' fetch.err | tail -n 1)
    why="wget ended with exit status $status${http:+ (HTTP $http)}"
  fi
  cat fetch.err >&2
}

wget_within() {
  printf '%s\n' "$url" | timeout "$1" wget -nv -c -t 1 -T 60 --max-redirect=5 -O artefact -i -
}

download_total() {
  command -v curl >/dev/null 2>&1 || return 0
  curl_url -I --max-time 30 2>/dev/null | tr -d '\r' | sed -n 's/^[Cc]ontent-[Ll]ength: *\([0-9]\{1,15\}\)$/\1/p' | tail -n 1
}

download_progress() {
  echo "$(artefact_size) ${expected:-0}"
}

# What will be the same in a minute: a file that is not there or must not be read, a redirect to something else than the web or
# in circles, more than an image can have, a disk that is full.
stop_if_final() {
  case $http in
  400 | 401 | 403 | 404 | 405 | 410 | 451) fail gone "the server answered $http" ;;
  esac
  if [ "$(artefact_size)" -ge "$most" ] || [ "$program/$status" = curl/63 ]; then
    rm -f artefact
    too_large "the server sends"
  fi
  case $program/$status in
  curl/1 | curl/3 | curl/47) fail download "the server does not lead to a file: $why" ;;
  curl/23 | wget/3) # cannot write
    ! disk_is_full || disk_full "the artefact fills the builder's disk"
    ;;
  esac
}

too_large() {
  fail too-large "$1 more than $most bytes, 16 times the volume: not an image for it"
}

disk_full() {
  rm -f artefact image
  fail disk-full "$1"
}

# What the server announces is known before a byte of it is written.
check_room() {
  [ -n "$expected" ] || return 0
  NEEDED="the artefact has $expected bytes"
  [ "$expected" -le "$most" ] || too_large "the server announces"
  room=$(free_space) || return 0
  [ $((expected - $(artefact_size))) -le "$room" ] || disk_full "the artefact does not fit on the builder's disk"
}

artefact_size() {
  stat -c %s artefact 2>/dev/null || echo 0
}

download() {
  deadline=$(($(uptime_seconds) + download_seconds))
  expected=$(download_total)
  check_room
  ticker download_progress
  tries=0
  resumed=no
  [ ! -s artefact ] || resumed=yes
  while :; do
    left=$((deadline - $(uptime_seconds)))
    [ "$left" -gt 0 ] || fail download "the download did not end within $download_seconds s"
    fetch_once "$left"
    [ "$status" -ne 0 ] || return 0
    tries=$((tries + 1))
    stop_if_final
    [ "$tries" -lt "$download_tries" ] || fail download "the download failed $tries times, at last: $why"
    # The server cannot resume, or not from there.
    case $program/$status in
    curl/22 | curl/33 | wget/1 | wget/2 | wget/8) rm -f artefact ;;
    esac
    [ ! -s artefact ] || resumed=yes
    sleep "$((tries < 5 ? tries * download_pause : 5 * download_pause))"
  done
}

# OpenSSL uses instructions of the processor for it that sha256sum, as Debian builds it, does not.
measure() {
  sum=$(openssl dgst -sha256 -r <artefact 2>/dev/null) || sum=$(sha256sum <artefact) || fail io "the artefact cannot be read"
  sum=${sum%% *}
}

# is_proved: whether the artefact that is there is the one that was asked for.
is_proved() {
  [ -n "$sha256" ] && [ -s artefact ] || return 1
  measure
  [ "$sum" = "$sha256" ]
}

get_artefact() {
  if [ "${uploaded:-no}" = yes ]; then
    phase check
    [ -f artefact ] || fail download "the publisher's file is not here"
    measure
    if [ -n "$sha256" ] && [ "$sum" != "$sha256" ]; then
      rm -f artefact
      fail checksum "the SHA-256 of the publisher's file is $sum instead of $sha256"
    fi
    fact sha256 "$sum"
    return 0
  fi
  phase download
  if ! is_proved; then
    download
    phase check
    measure
    if [ -n "$sha256" ] && [ "$sum" != "$sha256" ] && [ "$resumed" = yes ]; then
      # Two halves of two versions do not match either: only a download in one piece tells.
      rm -f artefact
      phase download
      download
      phase check
      measure
    fi
    if [ -n "$sha256" ] && [ "$sum" != "$sha256" ]; then
      rm -f artefact
      fail checksum "the artefact's SHA-256 is $sum instead of $sha256"
    fi
  fi
  fact sha256 "$sum"
}
