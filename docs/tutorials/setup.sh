# Run, unseen, at the beginning of each tutorial in bash: an interactive shell reads its user's
# settings, which may put another Python in front.
unalias -a
export PATH="$SITE_PATH"
cp "$TUTORIALS/make_crystals.py" .
