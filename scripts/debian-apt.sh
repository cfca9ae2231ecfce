# SPDX-License-Identifier: MIT
# To be sourced by bash scripts that fetch packages of another Debian suite than
# the host's, with state of their own: that needs no root, and leaves the host's
# lists alone.
# shellcheck shell=bash

# The archive the host itself uses; $1 is the suite, which decides between the
# security archive and the main one.
archive_uri() {
	local want='^[a-z]*(-updates|-backports)?$'
	[[ $1 = *-security ]] && want='^[a-z]*-security$'
	# shellcheck disable=SC2016	# apt-get expands $(...)
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
		awk -v want="$want" '$2 ~ want && $3 == "main" { print $1; exit }'
}

# Set apt_options for apt-get and apt-cache to suites $2..., with directory $1
# for state, and packages of $apt_arch (amd64). Fails, with words on stderr, where
# that cannot be.
use_suites() {
	local dir=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	local arch=${apt_arch:-amd64}
	local suite uri
	shift
	if [[ ! -e $keyring ]]; then
		echo "no $keyring: install debian-archive-keyring" >&2
		return 1
	fi
	mkdir -p "$dir"/{lists/partial,archives/partial}
	for suite in "$@"; do
		uri=$(archive_uri "$suite")
		if [[ ! $uri ]]; then
			echo "apt knows no Debian archive to get $suite from" >&2
			return 1
		fi
		echo "deb [arch=$arch signed-by=$keyring] $uri $suite main"
	done >"$dir/sources.list"
	# shellcheck disable=SC2034	# for who sources this
	apt_options=(
		-o APT::Architecture="$arch"
		-o APT::Architectures="$arch"
		-o Dir::State::lists="$dir/lists"
		-o Dir::State::status=/dev/null
		-o Dir::Cache="$dir"
		-o Dir::Etc::sourcelist="$dir/sources.list"
		-o Dir::Etc::sourceparts=/dev/null
		-o Dir::Etc::preferencesparts=/dev/null
	)
}
