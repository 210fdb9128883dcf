"""`armchair reward eval`: is a reward, and the judge behind it, any good?"""
