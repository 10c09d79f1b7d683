#!/bin/sh
# shutdown, poweroff, halt and reboot of a builder: there is no init system to ask, so ending the builder's first
# process is the whole shutdown. @POWER@ tells the cloud why, @INIT@ is the first process.
set -eu

action=poweroff
delay=0
case ${0##*/} in reboot) action=reboot ;; esac

for word in "$@"; do
    case $word in
    -r | --reboot) action=reboot ;;
    -h | -P | -H | --poweroff | --halt) action=poweroff ;;
    -c)
        if [ -f "@POWER@.pending" ]; then
            kill "$(cat "@POWER@.pending")" || true
            rm -f "@POWER@.pending"
        fi
        exit 0
        ;;
    poweroff | halt) action=poweroff ;;
    reboot) action=reboot ;;
    now) delay=0 ;;
    +[0-9]*) delay=$((60 * ${word#+})) ;;
    esac
done

end() {
    echo "$action" >"@POWER@"
    sync
    kill -TERM "@INIT@"
}

if [ "$delay" -eq 0 ]; then
    end
else
    (
        sleep "$delay"
        end
    ) </dev/null >/dev/null 2>&1 &
    echo $! >"@POWER@.pending"
fi
