# A console that nobody uses for 15 minutes logs out: it is in every dashboard of a cloud. SSH and notebooks stay.
# shellcheck shell=sh
case $(tty) in /dev/tty[0-9]* | /dev/ttyS* | /dev/hvc*)
    readonly TMOUT=900
    ;;
esac
