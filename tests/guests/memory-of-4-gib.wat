;; Wants all that a memory can have, at once.
;; expect: wanted more memory than the 4MiB of rule.guest.memory
(func $on_null (param $row i32) (drop (memory.grow (i32.const 65534))))
