#!/usr/bin/env bash
# A MariaDB server for the tests, unpacked into the folder named (default .venv-mariadb) and installed nowhere.
#
# An installed one (mariadbd on PATH or in /usr/sbin) is taken as it is. Else Debian's packages are downloaded and
# unpacked: with package lists and a cache of our own, so that nobody needs to be root. Where there is no apt the folder
# gets a note that says so, and the tests that need the server are skipped with that reason.
set -euo pipefail

folder=$(realpath -m "${1:-.venv-mariadb}")
mkdir -p "$folder"
cd "$folder"
rm -rf unpacked mariadbd reason

for found in "$(command -v mariadbd || true)" /usr/sbin/mariadbd; do
  if [ -x "$found" ]; then
    ln -s "$found" mariadbd
    exit 0
  fi
done
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  echo "there is no mariadbd here, and no apt to get one with: install MariaDB's server" | tee reason
  exit 0
fi

mkdir -p apt/lists/partial apt/cache/archives/partial downloaded unpacked
apt=(-qq -o "Dir::State::lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt/cache" -o "APT::Sandbox::User=")
apt-get "${apt[@]}" update

# the server, and those of its libraries that this machine lacks
wanted=(mariadb-server-core)
while read -r library; do
  dpkg-query -W -f='${Status}' "$library" 2>/dev/null | grep -q 'ok installed' || wanted+=("$library")
done < <(apt-cache "${apt[@]:1}" depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
  mariadb-server-core | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p')
(cd downloaded && apt-get "${apt[@]}" download "${wanted[@]}")
for package in downloaded/*.deb; do
  dpkg-deb --extract "$package" unpacked
done
rm -rf apt downloaded

libraries=$(find "$folder/unpacked" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd:)
cat >mariadbd <<SERVER
#!/bin/sh
export LD_LIBRARY_PATH="$libraries"
exec "$folder/unpacked/usr/sbin/mariadbd" --no-defaults --lc-messages-dir="$folder/unpacked/usr/share/mysql" \\
  --character-sets-dir="$folder/unpacked/usr/share/mysql/charsets" "\$@"
SERVER
chmod +x mariadbd
