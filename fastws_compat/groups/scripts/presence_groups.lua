-- The groups in which a process has sockets. KEYS: in:<process>.
return redis.call('SMEMBERS', KEYS[1])
