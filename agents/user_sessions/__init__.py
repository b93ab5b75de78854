"""orders + users → user-sessions: what each user did until they were away for half an hour."""
