# shellcheck shell=sh
# shellcheck disable=SC2154 # parameters of the task
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
    curl -K - -fsSL --proto '=http,https' --proto-redir '=http,https' --max-redirs 5 --connect-timeout 30 "$@"
}

# fetch_once SECONDS: go on where the file ends. Sets $http to the last answer's code, if it can be known.
fetch_once() {
  http=
  if command -v curl >/dev/null 2>&1; then
    http=$(curl_url -C - -o artefact --max-time "$1" --speed-limit 1024 --speed-time 60 -w '%{http_code}')
  else
    printf '%s\n' "$url" | timeout "$1" wget -nv -c -t 1 -T 60 --max-redirect=5 -O artefact -i -
  fi
}

download_total() {
  command -v curl >/dev/null 2>&1 || return 0
  curl_url -I --max-time 30 2>/dev/null | tr -d '\r' | sed -n 's/^[Cc]ontent-[Ll]ength: *\([0-9]\{1,15\}\)$/\1/p' | tail -n 1
}

download_progress() {
  echo "$(stat -c %s artefact 2>/dev/null || echo 0) ${expected:-0}"
}

# A file that was not there, or must not be read, will not be there in a minute.
is_final() {
  case $http in
  400 | 401 | 403 | 404 | 405 | 410 | 451) return 0 ;;
  esac
  return 1
}

download() {
  deadline=$(($(uptime_seconds) + download_seconds))
  expected=$(download_total)
  ticker download_progress
  tries=0
  resumed=no
  [ ! -s artefact ] || resumed=yes
  while :; do
    left=$((deadline - $(uptime_seconds)))
    [ "$left" -gt 0 ] || fail download "the download did not end within $download_seconds s"
    status=0
    fetch_once "$left" || status=$?
    [ "$status" -ne 0 ] || return 0
    tries=$((tries + 1))
    ! is_final || fail download "the server answered $http"
    [ "$tries" -lt "$download_tries" ] ||
      fail download "the download failed $tries times, at last with exit status $status${http:+ and HTTP $http}"
    # 33, 22: the server cannot resume, or not from there (curl); 1, 2, 8: the like (wget).
    case $status in
    1 | 2 | 8 | 22 | 33) rm -f artefact ;;
    esac
    [ ! -s artefact ] || resumed=yes
    sleep "$((tries < 5 ? tries * download_pause : 5 * download_pause))"
  done
}

measure() {
  sum=$(sha256sum <artefact) || fail io "the artefact cannot be read"
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
