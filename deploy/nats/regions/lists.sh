#!/bin/sh
# Makes what each role may do in each of several regions, from the lists of a lone region in
# the folder above: sh lists.sh 'eu us' wit
#
# First the regions that serve, of which the first is the home of tenants that no other is
# named for; then those that only vote. Each gets a folder beside this file.
set -eu
cd "$(dirname "$0")"
serving=$1
shift

# Of each line of a list it is known for which regions it is there. One that is not known
# ends the program: somebody has to say whose streams a role may get at.
lists='
function die(line) { print FILENAME ": whose is it: " line > "/dev/stderr"; failed = 1; exit 1 }

# of says that a line is about region h, or the queue or the copy of that name.
function of(line, h) { gsub(/_local/, "_" h, line); gsub(/\.local/, "." h, line); return line }

# revoked is the bucket in which a region stores revocations.
function revoked(line, h) { sub(/PEAL_REVOKED/, "PEAL_REVOKED" (h == homes[1] ? "" : "_" h), line); return line }

# copied is a line about a stream of a home as one about the copy of it in a region.
function copied(line, p,   at) {
	if (!match(line, /(PEAL_(INBOX|STATE)_local_[0-9]+|(PEAL_TICKET|KV_PEAL_PREF|KV_PEAL_QUEUE)_local)/)) return ""
	at = RSTART + RLENGTH
	return substr(line, 1, at - 1) "_in_" p substr(line, at)
}

# put writes what a line is for what is stored of home h in region p, if anything.
function put(line, h, p,   own) {
	own = h == here && p == here
	if (line ~ /KV_PEAL_REVOKED/) {
		if (h != p) return
		line = revoked(line, h)
		if (!own) sub(/KV_PEAL_REVOKED(_[a-z0-9]+)?/, "&_in_" here, line)
	} else if (line ~ /\$KV\.PEAL_REVOKED/) {
		if (!own) return
		line = revoked(line, h)
	} else if (line ~ /PEAL_EVENT_local|peal\.(event|work)\.local/) {
		# What waits for another home is put there by who works on events.
		if (h != p || !own && !works) return
		line = of(line, own ? h : here "_" h)
	} else if (line ~ /PEAL_DEAD_local|"peal\.erased\.local/) {
		# Dead letters of a user are erased in every region, and noted there.
		if (h != p || !own && !purges) return
		line = of(line, h)
	} else if (line ~ /PEAL_(LIMIT|ERASED)_local|peal\.(roll|dead)\.local/ || line !~ /local/) {
		if (!own) return
		line = of(line, h)
	} else if (line ~ /(PEAL_(INBOX|STATE|TICKET|PREF|QUEUE)_local|peal\.(inbox|state|ticket|live|livestate|liveticket|purged|claimed)\.local)/) {
		if (h != p) line = copied(line, p)
		if (line == "") return
		line = of(line, h)
	} else die(line)
	print line
}

# section writes the lines since the last comment: those about this region first.
function section(   i, h, p, n) {
	for (i = 1; i <= lines; i++) put(line[i], here, here)
	for (h = 1; h <= count; h++)
		for (p = 0; p <= count; p++) {
			n = p == 0 ? homes[h] : homes[p] # the origin, then copies
			if (p > 0 && n == homes[h] || p == 0 && n == here) continue
			for (i = 1; i <= lines; i++) put(line[i], homes[h], n)
		}
	lines = 0
}

BEGIN {
	count = split(serving, homes, " ")
	works = role == "dispatch" || role == "node"
	purges = role == "edge" || role == "node" || role == "admin"
}
/^# Of region local/ {
	print "# Of region " here " among " serving ", made by ../lists.sh from ../../" role ".conf."
	next
}
/^ *"/ {
	line[++lines] = $0
	if (/STREAM\.INFO\.\*/) line[++lines] = "    \"$JS.API.STREAM.NAMES\""
	next
}
{ section(); print }
END { if (!failed) section() }
'

# accounts are those of a lone region; where nobody connects, without users.
accounts='
/^accounts: \{/ { on = 1; next }
/^\}/ { on = 0 }
on { sub(/^  /, ""); gsub(/\.local\./, "." here "."); print }
'

for region in $serving; do
	mkdir -p "$region"
	for role in node edge dispatch admin publisher; do
		awk -v here="$region" -v serving="$serving" -v role="$role" "$lists" ../$role.conf >"$region/$role.conf"
	done
	{
		echo "# The accounts of region $region, made by ../lists.sh from ../../nats.conf."
		awk -v here="$region" "$accounts" ../nats.conf
	} >"$region/accounts.conf"
done
for region; do
	mkdir -p "$region"
	cat >"$region/accounts.conf" <<END
# The accounts of region $region, made by ../lists.sh: nobody connects there but who looks after
# the servers.
SYS: {
  users: [ { user: sys, password: \$NATS_SYS_PASSWORD } ]
}
PEAL: { jetstream: enabled }
PUBLISH: {}
END
done
