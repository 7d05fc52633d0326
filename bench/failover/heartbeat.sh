# Starts heartbeat on a node of the bed, in a mount, UTS and PID namespace of its own: it knows its files
# only by fixed places, its nodes only by host name, and leaves its scripts' children to init, which is
# this shell. Arguments: the node's directory, its name, its address on the crossover.
set -e
dir=$1
hostname "$2"
ip address replace "$3" broadcast + dev eth1

# Its own scripts, and this pair's config.
rm -rf "$dir/ha.d" "$dir/run"
cp -a /etc/ha.d "$dir/ha.d"
cp -p "$dir/ha.cf" "$dir/haresources" "$dir/authkeys" "$dir/ha.d/"
# Its generation number must survive a power cut.
[ -d "$dir/lib" ] || cp -a /var/lib/heartbeat "$dir/lib"
mkdir -p "$dir/run/lock" "$dir/run/heartbeat/ccm" "$dir/run/heartbeat/crm" "$dir/run/heartbeat/dopd"
chown -R hacluster:haclient "$dir/run/heartbeat"
chmod -R 750 "$dir/run/heartbeat"
mount --bind "$dir/ha.d" /etc/ha.d
mount --bind "$dir/lib" /var/lib/heartbeat
mount --bind "$dir/run" /run

# Without the right to that it says so, and works on with memory that is not locked.
ulimit -l unlimited || :
/usr/libexec/heartbeat/heartbeat -f &
wait
